"""Energy, forces and virial of a system: neighbours found, atoms evaluated block by block.

Symbols used in this file
    n  atoms        b  centre atoms of a block        k  neighbour slots of the block
"""

import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from openmm_allegro.ensemble import Ensemble
from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.folded_ensemble import FoldedEnsemble, folded
from openmm_allegro.model import Allegro
from openmm_allegro.neighbors import NeighborPairs, Neighbors, pad_rows

if TYPE_CHECKING:
    from openmm_allegro.workers import Workers


class Potential(torch.nn.Module):
    """A model with its neighbour list: positions in, energy, forces and virial out.

    Allegro is strictly local, so atoms are evaluated in blocks and only one block is in memory. Blocks
    take atoms in the order of their neighbour counts, so that little of a block is padding.
    """

    def __init__(
        self,
        model: Allegro | Ensemble,
        skin: float = 1.0,
        block_edges: int | None = None,
        tabulate: bool | None = None,
        kernels: bool = False,
    ) -> None:
        """Put a model to work.

        Parameters
        ----------
        model
            It is left in evaluation mode with frozen weights. The members of an ensemble are averaged.
        skin
            How far beyond the cutoff the neighbour list reaches [Å].
        block_edges
            Edges evaluated at once; None takes what suits a processor's cache, or fills a GPU.
        tabulate
            Whether splines stand for the two-body network where they give its slopes to 5e-7
            (`two_body.table_of`); None means in single precision, where rounding is larger than that.
        kernels
            Whether Triton kernels do the edge work, on a CUDA device (`triton_edges`).
        """
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.dtype = model.dtype
        self.skin = skin
        self.block_edges = block_edges
        self.max_bytes: int | None = None
        """Bound on what blocks may hold at once, on each device."""
        self.tabulate = tabulate
        self.neighbors = Neighbors(model.config.r_max, skin)
        self.kernels = kernels
        self.block = Block(model, model.dtype == torch.float32 if tabulate is None else tabulate, kernels)
        self.edge_bytes, self.atom_edges = memory_of(self.block.folded)
        self.workers: Workers | None = None

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
        total = self.of_atoms(positions, cell, types, numbers)
        return total.energies.sum(), total.forces, total.virial

    def of_atoms(self, positions: Tensor, cell: Tensor, types: Tensor, numbers: Tensor | None = None) -> "Total":
        """The same with the energy of each atom; arguments as those of `forward`."""
        self.neighbors.update(positions, cell, numbers)
        total = zeros(positions, self.dtype)
        self.add_centres(positions.shape[0], types, total)
        return total

    def add_centres(self, n_centres: int, types: Tensor, total: "Total") -> None:
        """Add what the first centres of the neighbour list give. types: (n,)."""
        sharing = 1
        if not torch.jit.is_scripting() and self.workers is not None:
            sharing = len(self.workers.devices)
        on_gpu = total.forces.is_cuda
        block_edges = self.edges_at_once(on_gpu, sharing)
        self.check_memory(1 if on_gpu else sharing)
        start = 0
        while start < n_centres:
            stop = self.neighbors.chunk_end(start, 16 * sharing * block_edges)
            pairs = self.neighbors.pairs(start, stop)
            blocks = even_blocks(pairs, block_edges, self.atom_edges, sharing)
            if not torch.jit.is_scripting():
                self.share(pairs, blocks, types, total)
            else:
                for rows in blocks:
                    self.block(pairs, rows, types, total)
            start = stop
        self.neighbors.check_apart()

    @torch.jit.unused
    def share(self, pairs: NeighborPairs, blocks: list[Tensor], types: Tensor, total: "Total") -> None:
        """Evaluate blocks beside each other if there are workers."""
        if self.workers is not None:
            self.workers.evaluate(pairs, blocks, types, total)
            return
        for rows in blocks:
            add_block(self.block, pairs, rows, types, total)

    def edges_at_once(self, on_gpu: bool, sharing: int) -> int:
        """Edges of a block: as chosen, or what suits the hardware, within the bound on memory."""
        block_edges = self.block_edges
        if block_edges is None:
            block_edges = usual_block_edges(on_gpu)
        max_bytes = self.max_bytes
        if max_bytes is not None:
            block_edges = min(block_edges, max_bytes // (self.edge_bytes * (1 if on_gpu else sharing)))
        return block_edges

    def check_memory(self, sharing: int) -> None:
        """Refuse a bound on memory below what one atom needs, with all candidates that it may come to have."""
        max_bytes = self.max_bytes
        if max_bytes is not None:
            most = int(self.neighbors.starts.diff().max())
            needed = (most + self.atom_edges) * self.edge_bytes * sharing
            if max_bytes < needed:
                raise ValueError(
                    f"`max_memory` is {max_bytes} bytes, but an atom with up to {most} neighbours needs {needed}; "
                    f"allow {needed} or more"
                )


def usual_block_edges(on_gpu: bool) -> int:
    """Edges of a block that fill a GPU, or on a processor those whose arrays its caches still hold.

    On one thread half as many took −5 to 23 % more time, four times as many 26 to 46 %; on two threads half as many
    took as long (tests/benchmarks/block_sizes.py).
    """
    return 262144 if on_gpu else 4096


def even_blocks(pairs: NeighborPairs, block_edges: int, atom_edges: int, sharing: int) -> list[Tensor]:
    """Rows of `pairs` to be evaluated together, those of like neighbour counts beside each other.

    block_edges: the most edges of a block; atom_edges: what an atom counts for beside its edges (`Memory`);
    sharing: workers that share the blocks; they get as many each.
    """
    counts, order = torch.sort(pairs.counts, descending=True)
    n_edges = pairs.neighbour.shape[0] + atom_edges * order.shape[0]
    rounds = 1 + n_edges // (sharing * max(1, block_edges))
    even_edges = min(block_edges, max(256, 1 + n_edges // (sharing * rounds)))
    blocks: list[Tensor] = []
    start = 0
    while start < order.shape[0]:
        one_atom = int(counts[start]) + atom_edges
        stop = start + max(1, even_edges // one_atom)
        blocks.append(order[start:stop])
        start = stop
    return blocks


class Total(NamedTuple):
    """What blocks add to."""

    energies: Tensor
    """Of each atom (n,) float64 [eV]."""
    forces: Tensor
    """(n, 3) [eV/Å]."""
    virial: Tensor
    """(3, 3) [eV]."""


def zeros(positions: Tensor, dtype: torch.dtype) -> Total:
    """A sum over no blocks. positions: (n, 3); dtype: of the forces and the virial."""
    n_atoms, device = positions.shape[0], positions.device
    energies = torch.zeros(n_atoms, dtype=torch.float64, device=device)
    forces = torch.zeros((n_atoms, 3), dtype=dtype, device=device)
    return Total(energies, forces, torch.zeros((3, 3), dtype=dtype, device=device))


class Block(torch.nn.Module):
    """Some centre atoms evaluated together."""

    def __init__(self, model: Allegro | Ensemble, tabulate: bool, kernels: bool) -> None:
        super().__init__()
        self.folded = folded(model, tabulate, kernels)
        self.dtype = model.dtype
        self.padding_length = 2.0 * model.config.r_max

    def forward(self, pairs: NeighborPairs, rows: Tensor, types: Tensor, total: Total) -> None:
        """Add the energies, forces and virial of the centres in `rows` (b,) of `pairs`. types: (n,)."""
        matrix = pad_rows(pairs, rows, self.padding_length)
        centres = pairs.centres[rows]
        energies, gradient = self.folded(matrix.edge_vectors, types[centres], types[matrix.neighbours])
        flat = gradient.flatten(0, 1)  # (b·k, 3)
        virial = torch.mm(matrix.edge_vectors.flatten(0, 1).t().to(self.dtype), flat)
        neighbours = matrix.neighbours.flatten().unsqueeze(1).expand(-1, 3)
        pull, push = -flat, gradient.sum(1)
        # nothing is added before all is there, so that a block that did not fit in memory can be tried again
        total.forces.scatter_add_(0, neighbours, pull)  # index_add_ walks slowly over rows of three
        total.forces.scatter_add_(0, centres.unsqueeze(1).expand(-1, 3), push)
        total.energies.index_add_(0, centres, energies)
        total.virial.sub_(virial)


def add_block(block: torch.nn.Module, pairs: NeighborPairs, rows: Tensor, types: Tensor, total: Total) -> None:
    """Add a block to `total`; where the GPU's memory does not hold it, its halves."""
    try:
        block(pairs, rows, types, total)
    except torch.OutOfMemoryError as error:
        if len(rows) == 1:
            raise ValueError(
                "the GPU's memory does not hold one atom with its neighbours; free some of it, take a smaller model "
                "or evaluate on the processor with `device='cpu'`"
            ) from error
        warnings.warn(
            f"the GPU's memory does not hold a block of {len(rows)} atoms, so it is halved; set `max_memory` to less "
            "than is free to save the attempt",
            stacklevel=2,
        )
        halves = rows.split(-(-len(rows) // 2))
    else:
        return
    for half in halves:  # outside of the handler, whose traceback holds the memory
        add_block(block, pairs, half, types, total)


class Memory(NamedTuple):
    """What the evaluation of a block holds at its peak: n atoms of k neighbours take n·(atom_edges + k)·edge_bytes."""

    edge_bytes: int
    atom_edges: int
    """Atoms hold their operators beside their edges: as much as this many edges."""


def memory_of(folded: FoldedAllegro | FoldedEnsemble) -> Memory:
    """Count the arrays of an evaluation that live at the same time, and what the search for its pairs holds."""
    if isinstance(folded, FoldedEnsemble):
        of_members = [memory_of(member) for member in folded.members]  # one after another
        return Memory(max(each.edge_bytes for each in of_members), max(each.atom_edges for each in of_members))
    n_weights, n_channels = folded.n_weights, folded.n_channels
    edge = 600 + 3 * folded.n_features  # pairs and geometry; features, their slopes and gradient
    atom = 0
    for layer in folded.layers:
        edge += 3 * layer.width + 2 * n_weights + n_channels + layer.later.weight.shape[0] + 2 * layer.hidden.n_floats
        atom += 3 * layer.contraction[:, 0].numel() + 3 * n_weights * folded.n_components
    edge += folded.two_body.n_floats
    floats = 4 if folded.edge_norm.dtype == torch.float32 else 8
    return Memory(edge_bytes=floats * edge, atom_edges=-(-atom // edge))
