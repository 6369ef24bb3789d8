"""The mean of several models for dynamics."""

from typing import cast

import torch
from torch import Tensor

from openmm_allegro.ensemble import Ensemble
from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.model import Allegro
from openmm_allegro.typed import ModulesOf


class FoldedEnsemble(torch.nn.Module):
    """Models evaluated one after another on the same edges; stands where a `FoldedAllegro` does."""

    def __init__(self, ensemble: Ensemble, tabulate: bool, kernels: bool) -> None:
        """Options as those of `FoldedAllegro`."""
        super().__init__()
        members = [FoldedAllegro(member, tabulate, kernels) for member in ensemble.members]
        self.members = cast(ModulesOf[FoldedAllegro], torch.nn.ModuleList(members))
        self.weight = 1.0 / len(members)
        self.dtype = ensemble.dtype

    def forward(self, edge_vectors: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> tuple[Tensor, Tensor]:
        """Means of what the members return, see `FoldedAllegro.forward`."""
        energies = torch.zeros(centre_types.shape, dtype=torch.float64, device=edge_vectors.device)
        gradient = torch.zeros_like(edge_vectors, dtype=self.dtype)
        for member in self.members:
            own_energies, own_gradient = member(edge_vectors, centre_types, neighbour_types)
            energies.add_(own_energies, alpha=self.weight)
            gradient.add_(own_gradient, alpha=self.weight)
        return energies, gradient


def folded(model: Allegro | Ensemble, tabulate: bool, kernels: bool) -> FoldedAllegro | FoldedEnsemble:
    """What evaluates a model or the mean of an ensemble."""
    if isinstance(model, Ensemble):
        return FoldedEnsemble(model, tabulate, kernels)
    return FoldedAllegro(model, tabulate, kernels)
