"""What a model says about a batch: energy, forces and stress.

Symbols used in this file
    f  frames        n  atoms        k  neighbour slots
"""

from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import Batch


class Prediction(NamedTuple):
    """Energy, forces and stress of the frames of a batch."""

    energy: Tensor
    """[eV], (f,) float64."""
    forces: Tensor
    """[eV/Å], (n, 3)."""
    stress: Tensor | None
    """[eV/Å³], (f, 3, 3); None when it was not asked for."""


def predict(model: Allegro, batch: Batch, with_stress: bool = False, training: bool = False) -> Prediction:
    """Energy and its slopes from one gradient with respect to the edge vectors.

    The force on atom i is what its own edges pull minus what the edges that end at it pull; with G the
    gradient of all energies, F_i = sum_k G_ik - sum over slots (j, k) with neighbour i of G_jk, and
    dE/dstrain = sum vec x G. training: keep the graph, so that the forces can be differentiated again.
    """
    n_frames = len(batch.n_atoms)
    with torch.enable_grad():
        vectors = batch.edge_vectors.detach().requires_grad_(True)
        atomic = model(vectors, batch.centre_types, batch.neighbour_types)
        (slopes,) = torch.autograd.grad(atomic.sum(), vectors, create_graph=training)  # (n, k, 3)
        energy = atomic.new_zeros(n_frames).index_add(0, batch.frame, atomic)
        ending_here = slopes.new_zeros((len(batch.frame), 3))
        ending_here = ending_here.index_add(0, batch.neighbours.flatten(), slopes.reshape(-1, 3))
        forces = slopes.sum(1) - ending_here
        stress = None
        if with_stress:
            strain = torch.einsum("nka,nkb->nab", vectors, slopes)
            strain = strain.new_zeros((n_frames, 3, 3)).index_add(0, batch.frame, strain)
            volumes = torch.where(batch.volumes > 0, batch.volumes, 1.0)  # NaN would reach the gradient of clusters
            stress = strain / volumes.to(strain.dtype).reshape(-1, 1, 1)
    if training:
        return Prediction(energy, forces, stress)
    return Prediction(energy.detach(), forces.detach(), None if stress is None else stress.detach())
