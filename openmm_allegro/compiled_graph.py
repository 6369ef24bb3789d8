"""A potential on a graph in one piece, without blocks or loops over data, so that AOTInductor compiles it.

Symbols used in this file
    n  atoms        e  pairs, from both ends        k  neighbour slots of each atom
"""

from typing import cast

import torch
from torch import Tensor

from openmm_allegro.ensemble import Ensemble
from openmm_allegro.folded_ensemble import folded
from openmm_allegro.graph import edge_vectors, image_shifts, stress_of, symmetric
from openmm_allegro.model import Allegro


class CompiledGraph(torch.nn.Module):
    """`graph.GraphPotential` for compilation: all atoms at once, each with as many slots as the fullest needs."""

    def __init__(self, model: Allegro | Ensemble) -> None:
        super().__init__()
        model = model.eval().requires_grad_(False)
        self.folded = folded(model, tabulate=False, kernels=False)
        self.cutoff = model.config.r_max

    def forward(self, fields: list[Tensor]) -> list[Tensor]:
        """One system; names and units as in `graph.GraphPotential`.

        fields: pos, edge_index, atom_types, and perhaps cell and edge_cell_shift. Returns atomic_energy, forces and
        virial; with a cell atomic_energy, total_energy, forces and stress.
        """
        positions, edge_index, types = fields[:3]
        vectors = edge_vectors(positions, edge_index)
        if len(fields) > 3:
            vectors = vectors + image_shifts(fields[4], fields[3])
        n_atoms = positions.shape[0]
        slots, k = self.slots(edge_index[0], vectors, n_atoms)
        matrix = vectors.new_zeros((n_atoms * k + 1, 3)) + 2.0 * self.cutoff * torch.eye(3).to(vectors)[0]
        matrix = matrix.index_copy(0, slots, vectors)[:-1].view(n_atoms, k, 3)
        own = torch.arange(n_atoms, device=types.device)
        neighbours = torch.cat((own.repeat_interleave(k), own[:1])).index_copy(0, slots, edge_index[1])[:-1]
        energies, gradient = self.folded(matrix, types, types.index_select(0, neighbours).view(n_atoms, k))
        energies = energies + 0.0 * positions.sum(1)  # no number for an atom at no place, of which no pair is found
        flat = gradient.reshape(-1, 3)
        forces = torch.zeros_like(positions).index_add(0, neighbours, -flat.to(positions)) + gradient.sum(1)
        virial = symmetric(-torch.mm(matrix.reshape(-1, 3).t().to(flat), flat))
        if len(fields) == 3:
            return [energies.unsqueeze(1), forces, virial]
        return [energies.unsqueeze(1), energies.sum().view(1, 1), forces, stress_of(virial, fields[3])]

    def slots(self, centre: Tensor, vectors: Tensor, n_atoms: int) -> tuple[Tensor, int]:
        """Where in n rows of k each pair goes, the place behind the last for those beyond the cutoff; and k.

        centre: (e,); vectors: (e, 3).
        """
        near = vectors.square().sum(1) < self.cutoff * self.cutoff
        centre, order = torch.sort(torch.where(near, centre, n_atoms), stable=True)
        bounds = torch.searchsorted(centre, torch.arange(n_atoms + 1, device=centre.device))
        k = cast(int, bounds.diff().max().clamp(min=2).item())  # `int()` would fix it at compilation
        torch._check(k >= 2)
        place = centre * k + torch.arange(centre.shape[0], device=centre.device) - bounds.index_select(0, centre)
        place = torch.where(centre < n_atoms, place, n_atoms * k)
        return torch.empty_like(place).index_copy(0, order, place), k
