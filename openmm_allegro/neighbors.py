"""Neighbours: pairs within the cutoff, and the padded matrix in which each centre atom has one row.

Symbols used in this file
    n  atoms        m  atoms and, after them, their images within reach of the cell
    b  rows         e  pairs, each counted from both ends
    k  neighbour slots of a row
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from vesin_torch import NeighborList

from openmm_allegro.cells import check_heights, heights, on_one_spot, split, surroundings, with_images


class NeighborPairs(NamedTuple):
    """Ordered pairs closer than the cutoff, sorted by row: a row holds the pairs of one centre atom."""

    centres: Tensor
    """Index of each row's atom, (b,) int64."""
    neighbour: Tensor
    """Index of the neighbour, (e,) int64."""
    vectors: Tensor
    """From centre to neighbour, periodic image included [Å], (e, 3) float64."""
    first: Tensor
    """Where each row's pairs begin, (b,) int64."""
    counts: Tensor
    """How many pairs each row has, (b,) int64."""


class NeighborMatrix(NamedTuple):
    """Neighbours of some centre atoms, one row each, padded to the longest row.

    A padding entry has the centre itself as neighbour and an edge vector along x that is longer
    than the cutoff, so that a model gives it exactly zero energy and zero gradient.
    """

    neighbours: Tensor
    """(b, k) int64."""
    edge_vectors: Tensor
    """[Å], (b, k, 3)."""
    real: Tensor
    """False for padding, (b, k) bool."""


class Neighbors(torch.nn.Module):
    """A list of candidate pairs, kept for as long as it is sure to hold every pair within the cutoff.

    The list reaches a skin beyond the cutoff. It names a neighbour by its place among the atoms and their
    images, so that a candidate takes four bytes and its vector is the difference of two places. vesin
    (https://luthaf.fr/vesin) makes it, a piece of a large system at a time.

    Atoms that the list does not pair were cutoff + skin apart or more when it was made. If the cell has since
    followed the linear map F, and no atom has moved by more than d beside following F too, they are still
    (cutoff + skin)·s - 2d apart or more, where s is the smallest singular value of F.
    """

    numbers: Tensor | None
    on_one_spot: list[int]

    def __init__(self, cutoff: float, skin: float = 0.0, piece_atoms: int = 32768) -> None:
        """cutoff, skin: [Å]; piece_atoms: the most centre atoms searched at once, which bounds the memory taken."""
        super().__init__()
        self.cutoff = cutoff
        self.reach = cutoff + skin
        self.piece_atoms = piece_atoms
        self.search = NeighborList(cutoff + skin, full_list=False)
        self.builds = 0
        """Lists made."""
        self.updates = 0
        """Steps asked for."""
        self.reset()

    @torch.jit.export
    def reset(self) -> None:
        """Forget the list, as is due before the module is saved."""
        nowhere, nobody = torch.zeros((3, 0), dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
        zeros = torch.zeros((3, 3), dtype=torch.float64)
        # the list: centres (n,), where the candidates of each begin (n + 1,), also on the CPU, and those (int32):
        self.order, self.starts, self.starts_here, self.candidates = nobody, nobody, nobody, nobody.to(torch.int32)
        self.pieces = 0
        # which atom each of the m is, and by how many lattice vectors images are shifted (3, m - n):
        self.atoms, self.shifts = nobody, nowhere
        # wrapped positions (3, n) and cell (3, 3) that it was made for, and how far atoms may move from there [Å]:
        self.reference, self.reference_cell, self.allowed = nowhere, zeros, -1.0
        # this step's cell, on the CPU; columns of lattice vectors, its inverse, and F for columns; each (3, 3):
        self.cell, self.lattice, self.to_lattice, self.strain = zeros, zeros, zeros, zeros
        # where the m are (3, m) [Å], what to call the atoms in errors (n,), and two that `pairs` met on one spot:
        self.places, self.numbers, self.on_one_spot = nowhere, None, [0][:0]

    def forward(self, positions: Tensor, cell: Tensor, numbers: Tensor | None = None) -> NeighborPairs:
        """All pairs, the rows in the order of the atoms. Arguments as in `update`."""
        self.update(positions, cell, numbers)
        pairs = self.pairs(0, positions.shape[0])
        self.check_apart()
        if self.pieces == 1:  # the order is that of the atoms
            return pairs
        row = torch.argsort(pairs.centres)
        counts = pairs.counts[row]
        first = torch.cumsum(counts, 0) - counts
        pair = torch.arange(pairs.neighbour.shape[0], device=row.device)
        pair += torch.repeat_interleave(pairs.first[row] - first, counts)
        return NeighborPairs(pairs.centres[row], pairs.neighbour[pair], pairs.vectors[pair], first, counts)

    @torch.jit.export
    def update(self, positions: Tensor, cell: Tensor, numbers: Tensor | None = None) -> None:
        """Take a step's positions; a list is made only if the last one might miss a pair.

        positions: (n, 3) [Å], wrapped into the cell or not; cell: (3, 3) rows are lattice vectors [Å],
        all zero when not periodic; numbers: (n,) what to call the atoms in errors, None counts from 0.
        """
        self.updates += 1
        self.numbers = numbers
        self.on_one_spot = [0][:0]
        here = positions.detach().to(torch.float64).t().contiguous()
        new_cell = cell.detach().to(torch.float64).cpu()
        if here.device != self.lattice.device or not torch.equal(new_cell, self.cell):
            self.change_cell(new_cell, here.device)
        if not self.follow(here):
            self.check_finite(here)
            self.build(here)

    def change_cell(self, cell: Tensor, device: torch.device) -> None:
        """Take a step's cell (3, 3) [Å] and find how far atoms may now move; below zero the list is of no use."""
        inverse = torch.zeros_like(cell)
        self.allowed = -1.0
        if bool((cell != 0).any()):
            check_heights(cell)
            inverse = torch.linalg.inv(cell)
            if bool((self.reference_cell != 0).any()):
                strain = torch.linalg.solve(self.reference_cell, cell)
                self.allowed = (self.reach * float(torch.linalg.svdvals(strain).min()) - self.cutoff) / 2
                self.strain = strain.t().to(device)
        self.cell, self.lattice, self.to_lattice = cell.clone(), cell.t().to(device), inverse.t().to(device)

    def follow(self, here: Tensor) -> bool:
        """Move the list's atoms and images to where the atoms are (3, n) [Å]; False if it might miss a pair."""
        if self.allowed < 0 or here.shape != self.reference.shape or here.device != self.reference.device:
            return False
        followed = torch.mm(self.strain, self.reference)
        moved = here - followed
        moved -= torch.mm(self.lattice, torch.round(torch.mm(self.to_lattice, moved)))
        farthest = math.sqrt(float((moved * moved).sum(0).max()))
        if not farthest <= self.allowed:  # nor is a distance that is not a number
            return False
        self.place(moved + followed)
        return True

    def place(self, here: Tensor) -> None:
        """Put the atoms, within or near the cell, here (3, n) [Å], and their images around them."""
        images = here.index_select(1, self.atoms[here.shape[1] :]) + torch.mm(self.lattice, self.shifts)
        self.places = torch.cat((here, images), 1)

    def build(self, here: Tensor) -> None:
        """Make a list where the atoms are (3, n) [Å]."""
        n_atoms = here.shape[1]
        self.reference, self.candidates = here[:, :0].clone(), self.candidates[:0].clone()  # there is no list now
        fractional, reach = here, torch.full((3,), self.reach, dtype=torch.float64)  # in Å if there is no cell
        self.atoms, self.shifts = torch.arange(n_atoms, device=here.device), here[:, :0]
        if bool((self.cell != 0).any()):
            fractional, reach = torch.mm(self.to_lattice, here), reach / heights(self.cell)
            outside = torch.floor(fractional)
            fractional, here = fractional - outside, here - torch.mm(self.lattice, outside)
            self.atoms, self.shifts = with_images(fractional, reach)
        self.place(here)
        everywhere = torch.cat((fractional, fractional[:, self.atoms[n_atoms:]] + self.shifts), 1)
        reach = reach.to(here.device)
        pieces = split(fractional / reach.unsqueeze(1), self.piece_atoms)
        self.search_pieces(pieces, everywhere, reach)
        self.reference, self.reference_cell = here, self.cell
        self.strain = torch.eye(3, dtype=torch.float64, device=here.device)

    def search_pieces(self, pieces: list[Tensor], everywhere: Tensor, reach: Tensor) -> None:
        """Find the candidates of all centres; each piece holds the places of some, what may be near is looked for.

        everywhere: where all places are, (3, m); reach: (3,) in the same unit.
        """
        counts: list[Tensor] = []
        candidates: list[Tensor] = []
        for piece in pieces:
            members = torch.cat((piece, surroundings(piece, everywhere, reach)))
            piece_counts, piece_candidates = self.search_piece(members, piece.shape[0])
            counts.append(piece_counts)
            candidates.append(piece_candidates)
        self.order, self.pieces = torch.cat(pieces), len(pieces)
        self.candidates = torch.cat(candidates)
        self.starts = torch.nn.functional.pad(torch.cumsum(torch.cat(counts), 0), (1, 0))
        self.starts_here = self.starts.cpu()
        self.allowed = (self.reach - self.cutoff) / 2
        self.builds += 1
        if self.places.is_cuda:  # there vesin leaves out pairs of no length, which `pairs` would refuse
            same = on_one_spot(self.places)
            if len(same) == 2:
                self.on_one_spot = [int(self.atoms[same[0]]), int(self.atoms[same[1]])]
                self.allowed = -1.0  # this list is of no use

    def search_piece(self, members: Tensor, n_centres: int) -> tuple[Tensor, Tensor]:
        """How many candidates each centre has, and their places among the m. members: places, the centres first."""
        points = self.places[:, members].t().contiguous()
        no_cell = torch.zeros((3, 3), dtype=torch.float64, device=points.device)  # the images are among the points
        if torch.jit.is_scripting():  # OpenMM has made the device the current one
            i, j = self.search.compute(points, no_cell, False, "ij", copy=False)
        else:
            i, j = self.search_where_points_are(points, no_cell)
        i, j = i.to(torch.int32), j.to(torch.int32)
        centre, other = torch.cat((i, j)), torch.cat((j, i))  # vesin gives each pair once
        own = torch.nonzero(centre < n_centres).flatten()
        centre, by_centre = torch.sort(centre[own])
        steps = torch.arange(n_centres + 1, dtype=torch.int32, device=members.device)
        counts = torch.searchsorted(centre, steps).diff()
        return counts, members.to(torch.int32)[other[own[by_centre]]]

    @torch.jit.unused
    def search_where_points_are(self, points: Tensor, no_cell: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs (e,) twice of the points (m, 3); vesin takes memory on the current CUDA device, wherever those are."""
        with torch.cuda.device_of(points):
            i, j = self.search.compute(points, no_cell, False, "ij", copy=False)
        return i, j

    @torch.jit.export
    def chunk_end(self, start: int, max_candidates: int) -> int:
        """The largest stop for which `pairs(start, stop)` looks at no more candidates, but at least start + 1."""
        most = int(self.starts_here[start]) + max_candidates
        return max(start + 1, int(torch.searchsorted(self.starts_here, most, right=True)) - 1)

    @torch.jit.export
    def pairs(self, start: int, stop: int) -> NeighborPairs:
        """Pairs closer than the cutoff, a row for each of the centres `order[start:stop]`."""
        begin, end = int(self.starts_here[start]), int(self.starts_here[stop])
        centres, candidates = self.order[start:stop], self.candidates[begin:end]
        bounds = self.starts[start : stop + 1] - begin
        row = torch.repeat_interleave(bounds.diff(), output_size=end - begin)
        along: list[Tensor] = []
        for axis in range(3):
            places = self.places[axis]
            along.append(places.index_select(0, candidates) - places.index_select(0, centres).index_select(0, row))
        squared = along[0] * along[0] + along[1] * along[1] + along[2] * along[2]
        if end > begin and float(squared.min()) < 1e-12:  # Å², far above rounding
            pair = int(squared.argmin())
            self.on_one_spot = [int(centres[row[pair]]), int(self.atoms[int(candidates[pair])])]
        kept = torch.nonzero(squared < self.cutoff * self.cutoff).flatten()
        vectors = torch.empty((kept.shape[0], 3), dtype=torch.float64, device=kept.device)
        for axis in range(3):
            vectors[:, axis] = along[axis].index_select(0, kept)
        bounds = torch.searchsorted(kept, bounds)
        neighbour = self.atoms.index_select(0, candidates.index_select(0, kept))
        return NeighborPairs(centres, neighbour, vectors, bounds[:-1], bounds.diff())

    def check_apart(self) -> None:
        """Refuse two atoms on one spot that `pairs` met; a TorchForce that raises in a loop crashes (torch 2.9)."""
        if len(self.on_one_spot) == 2:
            one, other = self.number(self.on_one_spot[0]), self.number(self.on_one_spot[1])
            raise ValueError(f"atoms {one} and {other} are on one spot; move one of them")

    def check_finite(self, here: Tensor) -> None:
        """Refuse positions (3, n) that are not numbers."""
        finite = torch.isfinite(here).all(0)
        if not bool(finite.all()):
            broken = self.number(int(torch.nonzero(~finite)[0]))
            raise ValueError(
                f"the position of atom {broken} is not a finite number; minimise first or use a shorter time step"
            )

    def number(self, atom: int) -> int:
        """What to call an atom in errors."""
        numbers = self.numbers
        return atom if numbers is None else int(numbers[atom])


def pad_rows(pairs: NeighborPairs, rows: Tensor, padding_length: float) -> NeighborMatrix:
    """Give each of some rows of the pairs, (b,), one row of a padded matrix. padding_length: [Å], beyond the cutoff."""
    counts = pairs.counts[rows]
    slots = torch.arange(int(counts.max()) if len(rows) > 0 else 0, device=rows.device)
    real = slots < counts.unsqueeze(1)  # (b, k)
    pair = torch.where(real, pairs.first[rows].unsqueeze(1) + slots, 0)
    padding = torch.zeros(3, dtype=pairs.vectors.dtype, device=rows.device)
    padding[0] = padding_length
    if pairs.neighbour.shape[0] == 0:  # no pair at all: k is zero and there is nothing to look up
        return NeighborMatrix(pair, pairs.vectors.new_zeros((len(rows), 0, 3)), real)
    vectors = torch.where(real.unsqueeze(2), pairs.vectors[pair], padding)
    neighbours = torch.where(real, pairs.neighbour[pair], pairs.centres[rows].unsqueeze(1))
    return NeighborMatrix(neighbours, vectors, real)


def neighbor_matrix(positions: Tensor, cell: Tensor, cutoff: float) -> NeighborMatrix:
    """Padded neighbours of every atom. positions: (n, 3) [Å]; cell: (3, 3) [Å], zeros when not periodic."""
    pairs = Neighbors(cutoff)(positions, cell)
    return pad_rows(pairs, torch.arange(positions.shape[0], device=positions.device), 2 * cutoff)
