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

    def __init__(self, model: Allegro, skin: float = 1.0, block_size: int = 64) -> None:
        """skin: [Å], how far beyond the cutoff the neighbour list reaches; block_size: atoms evaluated at once."""
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.dtype = model.dtype
        self.padding_length = 2.0 * model.config.r_max
        self.block_size = block_size
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
        for centres in torch.split(order, self.block_size):
            rows = pad_rows(pairs, centres, self.padding_length)
            vectors = rows.edge_vectors.to(self.dtype).requires_grad_(True)
            with torch.enable_grad():
                atom_energies = self.model(vectors, types[centres], types[rows.neighbours])
                gradient = torch.autograd.grad([atom_energies.sum()], [vectors])[0]
            assert gradient is not None
            energy += atom_energies.detach().sum()
            forces.index_add_(0, centres, gradient.sum(1))
            forces.index_add_(0, rows.neighbours.flatten(), gradient.flatten(0, 1), alpha=-1.0)
            virial -= torch.einsum("bki,bkj->ij", vectors.detach(), gradient)
        return energy, forces, virial
