"""Energy, forces and virial of a system: neighbours found, atoms evaluated block by block.

Symbols used in this file
    n  atoms        b  centre atoms of a block        k  neighbour slots of the block
"""

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

    def forward(self, positions: Tensor, cell: Tensor, types: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energy, forces and virial.

        Parameters
        ----------
        positions
            (n, 3) [Å], wrapped into the cell or not.
        cell
            (3, 3), rows are lattice vectors [Å]; all zero when not periodic.
        types
            Type of each atom, (n,) int64.

        Returns
        -------
        tuple
            energy () float64 [eV], forces (n, 3) [eV/Å], virial (3, 3) [eV]: minus the derivative of the
            energy with respect to strain.
        """
        pairs = self.neighbors(positions, cell)
        energy = torch.zeros((), dtype=torch.float64, device=positions.device)
        forces = torch.zeros((positions.shape[0], 3), dtype=self.dtype, device=positions.device)
        virial = torch.zeros((3, 3), dtype=self.dtype, device=positions.device)
        order = torch.argsort(pairs.counts, descending=True)
        block_edges = self.block_edges
        if block_edges is None:
            block_edges = 262144 if positions.is_cuda else 4096
        start = 0
        while start < order.shape[0]:
            longest = int(pairs.counts[order[start]])
            if longest > block_edges:
                raise ValueError(
                    f"an atom has {longest} neighbours, but the memory bound allows only {block_edges} edges at "
                    f"once; raise `max_memory` at least {longest / block_edges} times"
                )
            centres = order[start : start + block_edges // max(1, longest)]
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


def edge_memory(model: Allegro) -> int:
    """Bytes that the evaluation of one edge holds at its peak: what autograd keeps, and as much again for gradients."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    n_edges = 64
    vectors = torch.ones((1, n_edges, 3), dtype=model.dtype, requires_grad=True)
    types = torch.zeros((1, n_edges), dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.cpu()(vectors, types[:, 0], types)
    return 2 * sum(kept.values()) // n_edges
