"""An ensemble from one trained model and its training frames, without training again: last-layer rigidity.

A model is linear in its last layer: the energy of a frame is f · w and its forces are g · w, plus what does not
depend on w. With Gaussian errors of the training labels, w has a Gaussian posterior about the trained weights with
the precision P = sum f fᵀ / σ_E² + sum g gᵀ / σ_F² + λ, and a prediction the variance fᵀ P⁻¹ f (Bigi, Chong, Ceriotti
and Grasselli, Mach. Learn.: Sci. Technol. 5, 045018, 2024, arXiv:2403.02251, with energies alone). The errors of
frames that resemble each other are not independent, so calibration multiplies it by α².

Symbols used in this file
    f  frames        n  atoms of a batch        h  features that the last layer reads
"""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from openmm_allegro.ensemble import Ensemble, mirrored_ensemble
from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.last_layer import last_features, last_linear
from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import Batch, FrameDataset
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.predict import predict

RELATIVE_PRIOR = 1e-6
"""λ as a share of the mean eigenvalue of the rest of P; between 1e-10 and 1e-2 it changed no correlation by 0.04."""


class LastLayerOptions(NamedTuple):
    """How the ensemble is made."""

    n_members: int = 32
    """Members, in pairs of mirror images; as many pairs as the last layer reads features give the variance exactly."""
    n_force_frames: int = 50
    """Frames with forces, evenly spaced, whose forces count beside the energies of all; more changed little."""
    seed: int = 1


def last_layer_ensemble(
    model: Allegro, frames: Sequence[Frame], options: LastLayerOptions | None = None, batch_size: int = 5
) -> Ensemble:
    """Members at random places of the last layer's posterior, mirrored, so that their mean is the model itself.

    frames: those that the model was trained on, with energies, forces or both. The ensemble is not calibrated yet.
    """
    options = options or LastLayerOptions()
    if options.n_members < 2 or options.n_members % 2:
        raise ValueError(f"`members` is {options.n_members}; the members come in pairs, so give an even number")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    dataset = FrameDataset(frames, model.config.type_names, model.config.r_max, model.dtype)
    precision = posterior_precision(model, dataset, options.n_force_frames, batch_size)
    generator = torch.Generator().manual_seed(options.seed)
    return mirrored_ensemble(model, deviations(precision, options.n_members // 2, generator))


def deviations(precision: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws with mean zero and covariance P⁻¹. precision: (h, h). Returns (count, h).

    They come from vectors of length √h in random directions, orthogonal as far as there are that many: in place of
    independent Gaussian ones they say more of the variance with as few, and h of them say it exactly.
    """
    n_features = len(precision)
    sets = []
    for _ in range(-(-count // n_features)):
        normal = torch.randn((n_features, n_features), dtype=torch.float64, generator=generator)
        orthogonal, triangular = torch.linalg.qr(normal)
        sets.append(orthogonal * triangular.diagonal().sign() * math.sqrt(n_features))  # uniform over rotations
    directions = torch.cat(sets, dim=1)[:, :count]
    cholesky = torch.linalg.cholesky(precision)  # P = L Lᵀ, so that L⁻ᵀ z has the covariance P⁻¹
    return torch.linalg.solve_triangular(cholesky.t(), directions, upper=True).t()


def posterior_precision(model: Allegro, dataset: FrameDataset, n_force_frames: int, batch_size: int = 5) -> Tensor:
    """P, (h, h) float64, of the labels that there are. σ_E and σ_F are root mean square errors over these frames."""
    with_forces = [i for i, item in enumerate(dataset.items) if bool(torch.isfinite(item.forces).any())]
    places = torch.linspace(0, len(with_forces) - 1, min(n_force_frames, len(with_forces))).round().int().tolist()
    spaced = [with_forces[place] for place in places]
    n_features = last_linear(model).weight.shape[0]
    of_energies, of_forces = (torch.zeros((n_features, n_features), dtype=torch.float64) for _ in range(2))
    energy_errors, force_errors = [], []
    folded = FoldedAllegro(model)
    work = [(batch, False) for batch in _batches(list(range(len(dataset))), batch_size)]
    work += [(batch, True) for batch in _batches(spaced, batch_size)]
    console = Console(stderr=True)
    for numbers, is_of_forces in track(work, "last layer", console=console, disable=not console.is_terminal):
        batch = dataset.batch(numbers)
        if is_of_forces:
            rows = force_features(model, batch).flatten(0, 1)[torch.isfinite(batch.forces).flatten()]  # (3n, h)
            of_forces += rows.t() @ rows
            continue
        rows = energy_features(model, batch)[torch.isfinite(batch.energy)]
        of_energies += rows.t() @ rows
        prediction = predict(folded, batch)
        assert prediction.forces is not None
        energy_errors.append(prediction.energy - batch.energy)
        force_errors.append((prediction.forces - batch.forces).flatten().double())
    noise = [_mean_square(torch.cat(errors)) for errors in (energy_errors, force_errors)]
    if noise == [None, None]:
        raise ValueError("the training frames have neither energies nor forces; name them with the label options")
    parts = [part / square for part, square in zip((of_energies, of_forces), noise, strict=True) if square is not None]
    precision = sum(parts[1:], parts[0])
    if not precision.any():
        raise ValueError(
            f"no atom of the training frames has a neighbour within {model.config.r_max:g} Å, so they say nothing of "
            "the last layer; give the frames that the model was trained on"
        )
    prior = RELATIVE_PRIOR * float(precision.trace()) / n_features
    return precision + prior * torch.eye(n_features, dtype=torch.float64)


def energy_features(model: Allegro, batch: Batch) -> Tensor:
    """Derivative of each frame's energy for the last layer's weights, (f, h) float64."""
    features = last_features(model, batch.edge_vectors, batch.centre_types, batch.neighbour_types).detach()
    return features.new_zeros((len(batch.n_atoms), features.shape[1])).index_add(0, batch.frame, features)


def force_features(model: Allegro, batch: Batch) -> Tensor:
    """Derivative of the forces for the last layer's weights, (n, 3, h) float64. One backward pass for each of h."""
    vectors = batch.edge_vectors.detach().requires_grad_(True)
    total = last_features(model, vectors, batch.centre_types, batch.neighbour_types).sum(0)
    columns = []
    for each in total:
        (slopes,) = torch.autograd.grad(each, vectors, retain_graph=True)  # (n, k, 3)
        pulled = slopes.new_zeros((len(batch.frame), 3))
        columns.append(slopes.sum(1) - pulled.index_add(0, batch.neighbours.flatten(), slopes.reshape(-1, 3)))
    return torch.stack(columns, dim=2).double()


def _batches(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _mean_square(errors: Tensor) -> float | None:
    """Over the labels that there are; None where there is none, or where the fit is perfect to rounding."""
    known = errors[torch.isfinite(errors)]
    square = float(known.square().mean()) if len(known) else math.nan
    return square if square > 0 else None
