"""What a model says about a batch: energy, forces and stress.

Symbols used in this file
    f  frames        n  atoms        k  neighbour slots
"""

from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import Batch


class Prediction(NamedTuple):
    """Energy, forces and stress of the frames of a batch."""

    energy: Tensor
    """[eV], (f,) float64."""
    forces: Tensor | None
    """[eV/Å], (n, 3); None when they were not asked for."""
    stress: Tensor | None
    """[eV/Å³], (f, 3, 3); None when it was not asked for."""


class LiveAllegro:
    """A model with its gradient written out (`folded`), that follows the weights while they are trained.

    The forces come from the same pass as the energies, so training differentiates once instead of twice.
    """

    def __init__(self, model: Allegro) -> None:
        self.model = model
        self.folded = FoldedAllegro(model)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Energy of each atom (n,) float64 [eV], and the derivative of their sum for the edge vectors (n, k, 3)."""
        if self.folded.edge_norm.device != batch.edge_vectors.device:
            self.folded.to(batch.edge_vectors.device)
        self.folded.follow(self.model)
        return self.folded(batch.edge_vectors, batch.centre_types, batch.neighbour_types)


def predict(
    model: Allegro | FoldedAllegro | LiveAllegro, batch: Batch, with_stress: bool = False, training: bool = False
) -> Prediction:
    """Energy and its slopes from one gradient with respect to the edge vectors.

    The force on atom i is what its own edges pull minus what the edges that end at it pull; with G the
    gradient of all energies, F_i = sum_k G_ik - sum over slots (j, k) with neighbour i of G_jk, and
    dE/dstrain = sum vec x G. training: keep the graph of the weights.
    """
    n_frames = len(batch.n_atoms)
    with torch.set_grad_enabled(training):
        if isinstance(model, Allegro):
            atomic, slopes = by_autograd(model, batch, training)
        elif isinstance(model, FoldedAllegro):
            atomic, slopes = model(batch.edge_vectors, batch.centre_types, batch.neighbour_types)
        else:
            atomic, slopes = model(batch)
        ending_here = slopes.new_zeros((len(batch.frame), 3))
        ending_here = ending_here.index_add(0, batch.neighbours.flatten(), slopes.reshape(-1, 3))
        forces = slopes.sum(1) - ending_here
        stress = None
        if with_stress:
            strain = torch.einsum("nka,nkb->nab", batch.edge_vectors, slopes)
            strain = strain.new_zeros((n_frames, 3, 3)).index_add(0, batch.frame, strain)
            volumes = torch.where(batch.volumes > 0, batch.volumes, 1.0)  # NaN would reach the gradient of clusters
            stress = strain / volumes.to(strain.dtype).reshape(-1, 1, 1)
    return Prediction(_sum_by_frame(atomic, batch), forces, stress)


def predict_energies(model: Allegro, batch: Batch, training: bool = False) -> Prediction:
    """Energies alone, by the model as it is: its gradient is not needed. training: keep the graph of the weights."""
    with torch.set_grad_enabled(training):
        atomic = model(batch.edge_vectors, batch.centre_types, batch.neighbour_types)
    return Prediction(_sum_by_frame(atomic, batch), None, None)


def _sum_by_frame(atomic: Tensor, batch: Batch) -> Tensor:
    """atomic: (n,). Returns (f,)."""
    return atomic.new_zeros(len(batch.n_atoms)).index_add(0, batch.frame, atomic)


def by_autograd(model: Allegro, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
    """What `LiveAllegro` returns, from the model itself."""
    with torch.enable_grad():
        vectors = batch.edge_vectors.detach().requires_grad_(True)
        atomic = model(vectors, batch.centre_types, batch.neighbour_types)
        (slopes,) = torch.autograd.grad(atomic.sum(), vectors, create_graph=training)  # (n, k, 3)
    return (atomic, slopes) if training else (atomic.detach(), slopes.detach())
