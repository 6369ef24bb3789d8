"""A potential on a graph that another program made: positions and pairs in, energies, forces and virial out.

Symbols used in this file
    n  atoms, images of periodic cells among them if the program keeps such        e  pairs, from both ends
"""

import torch
from torch import Tensor

from openmm_allegro.ensemble import Ensemble
from openmm_allegro.model import Allegro
from openmm_allegro.neighbors import NeighborPairs
from openmm_allegro.potential import Block, Total, even_blocks, memory_of, usual_block_edges, zeros


class GraphPotential(torch.nn.Module):
    """The folded model behind the dictionaries of nequip's ASE calculator and of LAMMPS' `pair_style allegro`.

    Both find the pairs, in any order, perhaps with some beyond the cutoff, which are left out here.
    """

    def __init__(self, model: Allegro | Ensemble, tabulate: bool | None = None) -> None:
        """tabulate: as for `potential.Potential`."""
        super().__init__()
        model = model.eval().requires_grad_(False)
        self.dtype = model.dtype
        self.cutoff = model.config.r_max
        self.block = Block(model, model.dtype == torch.float32 if tabulate is None else tabulate, False)
        self.atom_edges = memory_of(self.block.folded).atom_edges

    def forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """One system.

        Parameters
        ----------
        data
            "pos" (n, 3) float64 [Å]; "edge_index" (2, e) int64, centres above neighbours; "atom_types" (n,) int64;
            and, where an image of the neighbour is meant, "cell" (1, 3, 3) float64 [Å] with rows as lattice vectors
            and "edge_cell_shift" (e, 3) float64, how many of them lie between.

        Returns
        -------
        dict
            All float64: "atomic_energy" (n, 1) and "total_energy" (1, 1) [eV]; "forces" (n, 3) [eV/Å]; "virial"
            (1, 3, 3) [eV], minus the derivative of the energy with respect to strain; and, where there is a cell,
            "stress" (1, 3, 3) [eV/Å³], not a number if it has no volume.
        """
        positions = data["pos"].data.to(torch.float64)  # no graph, see `export.ForceModule`
        types = data["atom_types"].flatten()
        if "batch" in data and positions.shape[0] > 0 and int(data["batch"].max()) > 0:
            raise ValueError("this model takes one system at a time, but `batch` names several; give them one by one")
        finite = torch.isfinite(positions).all(1)
        if not bool(finite.all()):  # of such an atom other programs find no pairs, as if it were alone
            broken = int(torch.nonzero(~finite)[0])
            raise ValueError(f"the position of atom {broken} is not a finite number; use a shorter time step")
        vectors = edge_vectors(positions, data["edge_index"])
        if "edge_cell_shift" in data and "cell" in data:
            vectors = vectors + image_shifts(data["edge_cell_shift"].data, data["cell"].data)
        total = zeros(positions, self.dtype)
        pairs, alone = self.sorted_pairs(data["edge_index"], vectors, positions.shape[0])
        nobody = torch.zeros((alone.shape[0], 0), dtype=torch.int64, device=positions.device)
        no_vectors = torch.zeros((alone.shape[0], 0, 3), dtype=self.dtype, device=positions.device)
        total.energies.index_add_(0, alone, self.block.folded(no_vectors, types[alone], nobody)[0])
        for rows in even_blocks(pairs, usual_block_edges(positions.is_cuda), self.atom_edges, 1):
            self.block(pairs, rows, types, total)
        return answer(total, data)

    def sorted_pairs(self, edge_index: Tensor, vectors: Tensor, n_atoms: int) -> tuple[NeighborPairs, Tensor]:
        """Pairs within the cutoff, row by row, and the atoms that have none. edge_index: (2, e); vectors: (e, 3)."""
        near = torch.nonzero(vectors.square().sum(1) < self.cutoff * self.cutoff).flatten()
        centre, by_centre = torch.sort(edge_index[0].index_select(0, near), stable=True)
        near = near.index_select(0, by_centre)
        bounds = torch.searchsorted(centre, torch.arange(n_atoms + 1, device=centre.device))
        counts = bounds.diff()
        centres = torch.nonzero(counts).flatten()
        neighbour, first = edge_index[1].index_select(0, near), bounds[:-1].index_select(0, centres)
        pairs = NeighborPairs(centres, neighbour, vectors.index_select(0, near), first, counts.index_select(0, centres))
        return pairs, torch.nonzero(counts == 0).flatten()


def edge_vectors(positions: Tensor, edge_index: Tensor) -> Tensor:
    """From centre to neighbour within the cell, (e, 3) [Å]. positions: (n, 3) [Å]; edge_index: (2, e)."""
    return positions.index_select(0, edge_index[1]) - positions.index_select(0, edge_index[0])


def image_shifts(shifts: Tensor, cell: Tensor) -> Tensor:
    """What leads from there to images, (e, 3) float64 [Å]. shifts: (e, 3) in lattice vectors; cell: (1, 3, 3) [Å]."""
    return torch.mm(shifts.to(torch.float64), cell.view(3, 3).to(torch.float64))


def symmetric(virial: Tensor) -> Tensor:
    """A virial (3, 3) [eV] as other programs take it, of which LAMMPS reads one half: (1, 3, 3) float64."""
    virial = virial.to(torch.float64).unsqueeze(0)
    return (virial + virial.transpose(1, 2)) / 2


def stress_of(virial: Tensor, cell: Tensor) -> Tensor:
    """(1, 3, 3) [eV/Å³], not a number in a cell (1, 3, 3) [Å] without volume. virial: (1, 3, 3) float64 [eV]."""
    volume = torch.linalg.det(cell.view(3, 3).to(virial)).abs()
    return torch.where(volume > 0, -virial / volume, torch.full_like(virial, float("nan")))


def answer(total: Total, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a graph's energies and forces are called. data: see `GraphPotential.forward`."""
    virial = symmetric(total.virial)
    found = {
        "atomic_energy": total.energies.unsqueeze(1),
        "total_energy": total.energies.sum().view(1, 1),
        "forces": total.forces.to(torch.float64),
        "virial": virial,
    }
    if "cell" in data:
        found["stress"] = stress_of(virial, data["cell"].data)
    return found
