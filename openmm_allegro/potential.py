"""Energy, forces and virial of a system: neighbours found, atoms evaluated block by block.

Symbols used in this file
    n  atoms        b  centre atoms of a block        k  neighbour slots of the block
"""

from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.model import Allegro
from openmm_allegro.neighbors import Neighbors, pad_rows


class Potential(torch.nn.Module):
    """A model with its neighbour list: positions in, energy, forces and virial out.

    Allegro is strictly local, so atoms are evaluated in blocks and only one block is in memory. Blocks
    take atoms in the order of their neighbour counts, so that little of a block is padding.
    """

    def __init__(self, model: Allegro, skin: float = 1.0, block_edges: int | None = None) -> None:
        """Put a model to work.

        Parameters
        ----------
        model
            It is left in evaluation mode with frozen weights.
        skin
            How far beyond the cutoff the neighbour list reaches [Å].
        block_edges
            Edges evaluated at once; None takes what suits a processor's cache, or fills a GPU.
        """
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.dtype = model.dtype
        self.padding_length = 2.0 * model.config.r_max
        self.skin = skin
        self.block_edges = block_edges
        self.neighbors = Neighbors(model.config.r_max, skin)
        self.edge_bytes, self.atom_edges = memory_of(model)

    def forward(
        self, positions: Tensor, cell: Tensor, types: Tensor, numbers: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energy, forces and virial.

        Parameters
        ----------
        positions
            (n, 3) [Å], wrapped into the cell or not.
        cell
            (3, 3), rows are lattice vectors [Å]; all zero when not periodic.
        types
            Type of each atom, (n,) int64.
        numbers
            What to call each atom in errors, (n,) int64; None counts from 0.

        Returns
        -------
        tuple
            energy () float64 [eV], forces (n, 3) [eV/Å], virial (3, 3) [eV]: minus the derivative of the
            energy with respect to strain.
        """
        pairs = self.neighbors(positions, cell, numbers)
        energy = torch.zeros((), dtype=torch.float64, device=positions.device)
        forces = torch.zeros((positions.shape[0], 3), dtype=self.dtype, device=positions.device)
        virial = torch.zeros((3, 3), dtype=self.dtype, device=positions.device)
        order = torch.argsort(pairs.counts, descending=True)
        block_edges = self.block_edges
        if block_edges is None:
            block_edges = 262144 if positions.is_cuda else 4096
        start = 0
        while start < order.shape[0]:
            one_atom = int(pairs.counts[order[start]]) + self.atom_edges
            if one_atom > block_edges:
                raise ValueError(
                    f"an atom with its neighbours needs {one_atom / block_edges} times the memory that is allowed at "
                    "once; raise `max_memory` that many times or more"
                )
            centres = order[start : start + block_edges // one_atom]
            start += centres.shape[0]
            rows = pad_rows(pairs, centres, self.padding_length)
            vectors = rows.edge_vectors.to(self.dtype).requires_grad_(True)
            atom_energies = self.model(vectors, types[centres], types[rows.neighbours])
            gradient = torch.autograd.grad([atom_energies.sum()], [vectors])[0]
            assert gradient is not None
            energy += atom_energies.detach().sum()
            forces.index_add_(0, centres, gradient.sum(1))
            forces.index_add_(0, rows.neighbours.flatten(), gradient.flatten(0, 1), alpha=-1.0)
            virial -= torch.einsum("bki,bkj->ij", vectors.detach(), gradient)
        return energy, forces, virial


class Memory(NamedTuple):
    """What the evaluation of a block holds at its peak: n atoms of k neighbours take n·(atom_edges + k)·edge_bytes."""

    edge_bytes: int
    atom_edges: int
    """Atoms hold their operators beside their edges: as much as this many edges."""


def memory_of(model: Allegro) -> Memory:
    """Measure what autograd keeps of an evaluation; count as much again for gradients, and operators once more."""
    small, more_edges, more_atoms = (_kept_bytes(model, n, k) for n, k in ((1, 8), (1, 24), (17, 8)))
    edge = (more_edges - small) / 16
    atom = (more_atoms - small) / 16 - 8 * edge
    return Memory(edge_bytes=round(2 * edge), atom_edges=max(0, round(1.5 * atom / edge)))


def _kept_bytes(model: Allegro, n_atoms: int, n_neighbours: int) -> int:
    """Bytes that autograd keeps for the gradient of a block."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    device = model.shifts.device
    vectors = torch.ones((n_atoms, n_neighbours, 3), dtype=model.dtype, device=device, requires_grad=True)
    types = torch.zeros((n_atoms, n_neighbours), dtype=torch.int64, device=device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(vectors, types[:, 0], types)
    return sum(kept.values())
