"""The weighted mean of the errors of a prediction, squared or after Huber.

Symbols used in this file
    f  frames        n  atoms
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.training.batch import Batch
from openmm_allegro.training.config import LossOptions
from openmm_allegro.training.predict import Prediction


class Weights(NamedTuple):
    """Weights of the errors at one moment of a run."""

    energy: float
    forces: float
    stress: float


def weights_at(options: LossOptions, progress: float) -> Weights:
    """The weights when a share of the run is over. progress: 0 to 1."""
    start, end = options.ramp
    share = min(1.0, (progress - start) / (end - start)) if start < end else 1.0
    if progress < start:
        share = 0.0
    pairs = [
        (options.energy, options.energy_end),
        (options.forces, options.forces_end),
        (options.stress, options.stress_end),
    ]
    return Weights(*(first if last is None else first + share * (last - first) for first, last in pairs))


def sum_of_terms(terms: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """The loss from what `weighted_terms` gives of a batch."""
    return torch.stack([term.to(batch.forces.dtype) for term in terms.values()]).sum()


def weighted_terms(
    prediction: Prediction, batch: Batch, options: LossOptions, progress: float = 1.0
) -> dict[str, Tensor]:
    """Weighted mean errors of the energies, forces and stresses that have a weight, by these names.

    A label that is NaN (not known) does not count. progress: share of the run that is over; validations take the
    weights of its end, so that they compare.
    """
    weights = weights_at(options, progress)
    terms: dict[str, Tensor] = {}
    if weights.energy > 0:
        size = batch.n_atoms if options.per_atom_energy else torch.ones_like(batch.n_atoms)
        energy = mean_error(prediction.energy / size, batch.energy / size, _threshold(options, options.huber_energy))
        terms["energy"] = weights.energy * energy
    if weights.forces > 0 and prediction.forces is not None:
        constant = _threshold(options, options.huber_forces)
        threshold = strata_thresholds(batch.forces, options) if options.kind == "stratified_huber" else constant
        terms["forces"] = weights.forces * mean_error(prediction.forces, batch.forces, threshold)
    if weights.stress > 0 and prediction.stress is not None:
        constant = _threshold(options, options.huber_stress)
        terms["stress"] = weights.stress * mean_error(prediction.stress, batch.stress, constant)
    return terms


def mean_error(predicted: Tensor, label: Tensor, threshold: float | Tensor | None) -> Tensor:
    """Mean over the known labels of e², or with a threshold d of e² up to |e| = d and d(2|e| - d) beyond.

    This is twice Huber's function (Ann. Math. Stat. 35, 73, 1964), so that weights mean the same in all kinds.
    threshold: in the unit of the label; None is no threshold.
    """
    known = torch.isfinite(label)
    error = torch.where(known, predicted - label, 0.0)
    counted = error.square()
    if threshold is not None:
        size = error.abs()
        counted = torch.where(size <= threshold, counted, threshold * (2 * size - threshold))
    return counted.sum() / known.sum().clamp(min=1)


def strata_thresholds(forces: Tensor, options: LossOptions) -> Tensor:
    """Threshold of each atom by the size of its reference force. forces: (n, 3) [eV/Å]. Returns (n, 1) [eV/Å].

    The shares of MACE-MP-0 (Batatia et al., arXiv:2401.00096), which nequip calls stratified Huber.
    """
    sizes, shares = zip(*options.huber_strata, strict=True)
    stratum = torch.bucketize(torch.linalg.vector_norm(forces, dim=1), forces.new_tensor(sizes[1:]), right=True)
    return options.huber_forces * forces.new_tensor(shares)[stratum].unsqueeze(1)


def _threshold(options: LossOptions, threshold: float) -> float | None:
    return None if options.kind == "mse" else threshold
