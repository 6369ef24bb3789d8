"""Frames as tensors: neighbours found once, frames joined to one padded batch, an order known from its seed.

Symbols used in this file
    f  frames of a batch        n  atoms of a frame, or of all frames of a batch
    k  neighbour slots; padding lies beyond the cutoff
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.training.frames import Frame, check_elements
from openmm_allegro.training.pairs import Pairs, find_pairs, pad
from openmm_allegro.training.store import StoredFrames

BATCHES_OF_A_GROUP = 16
"""Among the frames of so many batches those of like size are put together; more would save little more."""


class Batch(NamedTuple):
    """Some frames joined; a label that a frame does not have is NaN."""

    edge_vectors: Tensor
    """From centre to neighbour [Å], (n, k, 3)."""
    neighbours: Tensor
    """Index of the neighbour within the batch, (n, k) int64."""
    centre_types: Tensor
    """(n,) int64."""
    neighbour_types: Tensor
    """(n, k) int64."""
    frame: Tensor
    """Which frame an atom belongs to, (n,) int64."""
    n_atoms: Tensor
    """Atoms of each frame, (f,) float64."""
    volumes: Tensor
    """[Å³], (f,) float64; NaN when not periodic."""
    energy: Tensor
    """[eV], (f,) float64."""
    forces: Tensor
    """[eV/Å], (n, 3)."""
    stress: Tensor
    """[eV/Å³], (f, 3, 3)."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(*(tensor.to(device) for tensor in self))


class FrameDataset:
    """Frames as one-frame batches; neighbours are found here, once, or read with each frame of a store."""

    items: Sequence[Batch]

    def __init__(
        self,
        frames: Sequence[Frame],
        type_names: Sequence[str],
        cutoff: float,
        dtype: torch.dtype = torch.float32,
        min_distance: float = 0.0,
    ) -> None:
        """cutoff, min_distance (atoms closer than this are refused): [Å]."""
        self.padding_length = 2 * cutoff
        self.dtype = dtype
        if isinstance(frames, StoredFrames):
            frames.check(type_names, cutoff)
            self.items = _StoredItems(frames, type_names, cutoff, dtype)
            self.n_atoms, self.n_pairs = frames.n_atoms, frames.n_pairs
            self.most_neighbours = frames.most_neighbours()
            return
        check_elements(frames, type_names)
        items, self.n_atoms, self.n_pairs = [], 0, 0
        for frame in frames:
            pairs = find_pairs(frame, cutoff, min_distance)
            items.append(_one_frame_batch(frame, pairs, type_names, cutoff, dtype))
            self.n_atoms, self.n_pairs = self.n_atoms + len(pairs.counts), self.n_pairs + len(pairs.neighbours)
        self.items = items
        self.most_neighbours = [item.neighbours.shape[1] for item in items]
        """Of any atom, in each frame: the slots that each of its atoms takes."""

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The frames with these numbers as one batch."""
        return join([self.items[i] for i in indices], self.padding_length)

    def empty_batch(self) -> Batch:
        """A batch without frames."""
        return Batch(*(tensor[:0] for tensor in self.items[0]))


class _StoredItems(Sequence[Batch]):
    """One-frame batches that are made when they are asked for, and not kept."""

    def __init__(self, frames: StoredFrames, type_names: Sequence[str], cutoff: float, dtype: torch.dtype) -> None:
        self.frames = frames
        self.rest = (type_names, cutoff, dtype)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int) -> Batch:  # type: ignore[override]
        return _one_frame_batch(self.frames[i], self.frames.pairs(i), *self.rest)


def _one_frame_batch(frame: Frame, pairs: Pairs, type_names: Sequence[str], cutoff: float, dtype: torch.dtype) -> Batch:
    neighbours, edge_vectors = pad(pairs, frame, 2 * cutoff)
    type_of = {symbol: number for number, symbol in enumerate(type_names)}
    types = torch.tensor([type_of[symbol] for symbol in frame.symbols])
    nan3 = torch.full((3, 3), torch.nan, dtype=dtype)
    return Batch(
        edge_vectors=edge_vectors.to(dtype),
        neighbours=neighbours,
        centre_types=types,
        neighbour_types=types[neighbours],
        frame=torch.zeros_like(types),
        n_atoms=torch.tensor([len(types)], dtype=torch.float64),
        volumes=torch.tensor([frame.volume if frame.periodic else torch.nan], dtype=torch.float64),
        energy=torch.tensor([torch.nan if frame.energy is None else frame.energy], dtype=torch.float64),
        forces=nan3[:1].repeat(len(types), 1) if frame.forces is None else torch.tensor(frame.forces, dtype=dtype),
        stress=(nan3 if frame.stress is None else torch.tensor(frame.stress, dtype=dtype)).unsqueeze(0),
    )


def join(parts: Sequence[Batch], padding_length: float) -> Batch:
    """One batch from several. padding_length: [Å], beyond the cutoff."""
    n_atoms = [len(part.centre_types) for part in parts]
    first = [0, *torch.tensor(n_atoms).cumsum(0).tolist()]
    n_slots = max(1, *(part.neighbours.shape[1] for part in parts))
    types = torch.cat([part.centre_types for part in parts])
    own_index = torch.arange(len(types)).unsqueeze(1)
    neighbours = own_index.repeat(1, n_slots)  # a padding slot has the centre itself
    edge_vectors = parts[0].edge_vectors.new_zeros((len(types), n_slots, 3))
    edge_vectors[:, :, 0] = padding_length
    for start, part in zip(first, parts, strict=False):
        n, k = part.neighbours.shape
        neighbours[start : start + n, :k] = part.neighbours + start
        edge_vectors[start : start + n, :k] = part.edge_vectors
    frame = torch.arange(len(parts)).repeat_interleave(torch.tensor(n_atoms))
    labels = [torch.cat(tensors) for tensors in zip(*(part[5:] for part in parts), strict=True)]
    return Batch(edge_vectors, neighbours, types, types[neighbours], frame, *labels)


class ShuffledBatches:
    """Batches of a dataset; the order of an epoch depends on the seed and the epoch's number only."""

    def __init__(self, dataset: FrameDataset, batch_size: int, seed: int | None, group_by_size: bool = False) -> None:
        """seed: None keeps the order of the frames. group_by_size: less padding, see `RunOptions`."""
        self.dataset = dataset
        self.group_by_size = group_by_size
        self.batch_size = batch_size
        self.seed = seed
        self.process, self.n_processes = 0, 1

    def deal_out(self, process: int, n_processes: int) -> None:
        """From now on every batch is the share of one process (counted from 0), which may be empty."""
        self.process, self.n_processes = process, n_processes

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def order(self, epoch: int) -> list[int]:
        """Numbers of the frames."""
        if self.seed is None:
            return list(range(len(self.dataset)))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.dataset), generator=generator).tolist()
        return self._grouped(order, generator) if self.group_by_size else order

    def _grouped(self, order: list[int], generator: torch.Generator) -> list[int]:
        """The same frames, some batches at a time sorted by their neighbours and cut to batches in random order."""
        size = self.batch_size
        n_whole = len(order) // size * size
        grouped: list[int] = []
        for start in range(0, n_whole, BATCHES_OF_A_GROUP * size):
            frames = order[start : min(n_whole, start + BATCHES_OF_A_GROUP * size)]
            frames.sort(key=self.dataset.most_neighbours.__getitem__)
            for batch in torch.randperm(len(frames) // size, generator=generator).tolist():
                grouped += frames[batch * size : (batch + 1) * size]
        return grouped + order[n_whole:]

    def __iter__(self) -> Iterator[Batch]:
        return self.of_epoch(0)

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from a number on; those before it are not made."""
        order = self.order(epoch)
        for start in range(first * self.batch_size, len(order), self.batch_size):
            own = order[start : start + self.batch_size][self.process :: self.n_processes]
            yield self.dataset.batch(own) if own else self.dataset.empty_batch()
