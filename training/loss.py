"""The weighted mean of the squared errors of a prediction.

Symbols used in this file
    f  frames        n  atoms
"""

import torch
from torch import Tensor

from openmm_allegro.training.batch import Batch
from openmm_allegro.training.config import LossOptions
from openmm_allegro.training.predict import Prediction


def weighted_loss(prediction: Prediction, batch: Batch, weights: LossOptions) -> Tensor:
    """Sum of the weighted mean squared errors; a label that is NaN (not known) does not count."""
    total = prediction.forces.new_zeros(())
    if weights.energy > 0:
        error = prediction.energy - batch.energy
        if weights.per_atom_energy:
            error = error / batch.n_atoms
        total = total + weights.energy * error.square().mean().to(total.dtype)
    if weights.forces > 0:
        total = total + weights.forces * (prediction.forces - batch.forces).square().mean()
    if weights.stress > 0 and prediction.stress is not None:
        known = torch.isfinite(batch.stress)
        error = torch.where(known, prediction.stress - batch.stress, 0.0)
        total = total + weights.stress * error.square().sum() / known.sum().clamp(min=1)
    return total
