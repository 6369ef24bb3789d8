"""Heads: several levels of theory that share a model but for its readout, scales and shifts.

A batch has frames of one head. A run without heads is one head whose name is empty.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import Batch, ShuffledBatches


class HeadBatch(NamedTuple):
    """A batch and whose frames it has."""

    head: int
    """Number of the head."""
    frames: Batch

    def to(self, device: torch.device) -> "HeadBatch":
        """The same batch on another device."""
        return HeadBatch(self.head, self.frames.to(device))


class InterleavedBatches:
    """Batches of all heads in one random order, which depends on the seed and the epoch's number only."""

    def __init__(self, heads: Sequence[ShuffledBatches], seed: int | None) -> None:
        """seed: None takes one head after the other."""
        self.heads = heads
        self.seed = seed

    def deal_out(self, process: int, n_processes: int) -> None:
        """From now on every batch is the share of one process (counted from 0), which may be empty."""
        for batches in self.heads:
            batches.deal_out(process, n_processes)

    def __len__(self) -> int:
        return sum(map(len, self.heads))

    def order(self, epoch: int) -> list[int]:
        """Number of the head of each batch."""
        numbers = [number for number, batches in enumerate(self.heads) for _ in range(len(batches))]
        if self.seed is None:
            return numbers
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return [numbers[i] for i in torch.randperm(len(numbers), generator=generator).tolist()]

    def __iter__(self) -> Iterator[HeadBatch]:
        return self.of_epoch(0)

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[HeadBatch]:
        """The batches of one epoch from a number on; those before it are not made."""
        order = self.order(epoch)
        before = Counter(order[:first])
        heads = [batches.of_epoch(epoch, before[number]) for number, batches in enumerate(self.heads)]
        for number in order[first:]:
            yield HeadBatch(number, next(heads[number]))


def another_head(model: Allegro, scales: Mapping[str, float] | None, shifts: Mapping[str, float] | None) -> Allegro:
    """A model that shares all weights but readout, scales and shifts; its readout begins as a copy.

    scales, shifts: by type [eV]; None copies those of the model.
    """
    shared = {id(part): part for name, part in model.named_children() if name != "readout"}
    head = copy.deepcopy(model, shared)
    for option, weights, table in (
        ("per_type_energy_scales", head.scales, scales),
        ("per_type_energy_shifts", head.shifts, shifts),
    ):
        if table is not None:
            head.config = head.config.model_copy(update={option: dict(table)})
            values = [table[name] for name in head.config.type_names]
            with torch.no_grad():
                weights.copy_(torch.tensor(values, dtype=torch.float64))
    return head


def completed(tables: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Figures of each head for all types; for one that a head lacks, those of the first head that has it."""
    found: dict[str, float] = {}
    for table in reversed(list(tables.values())):
        found |= table
    return {head: {name: table.get(name, found[name]) for name in names} for head, table in tables.items()}


def history_columns(
    kind: str, errors: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]
) -> dict[str, float]:
    """Errors of some frames as columns of the history: the weighted mean of the losses, then the errors of each head.

    kind: `train` or `validation`. errors: of each head, by name; none of a head without frames.
    """
    losses = {head: own["loss"] for head, own in errors.items() if own}
    if not losses:
        return {}
    mean = sum(weights[head] * loss for head, loss in losses.items()) / sum(weights[head] for head in losses)
    columns = {f"{kind}_loss": mean}
    for head, own in errors.items():
        columns |= {f"{head}.{kind}_{name}" if head else f"{kind}_{name}": value for name, value in own.items()}
    return columns


def row_of_head(row: Mapping[str, float], head: str) -> dict[str, float]:
    """A row of the history as it would be without the other heads."""
    parts = {name: name.rpartition(".") for name in row}
    return {parts[name][2]: value for name, value in row.items() if parts[name][0] in ("", head)}


def heads_in(row: Mapping[str, float]) -> list[str]:
    """Names of the heads that a row of the history tells of."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in row if "." in name)) or [""]


def own_file(name: str, head: str) -> str:
    """Name of a file of one head, such as `best.scan.safetensors`."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{head}.{ending}" if head else name


@contextmanager
def speaking_of(head: str) -> Iterator[None]:
    """What is refused names the head, and its options as the TOML file has them."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(_of_head(str(error), head)) from error
    except ValueError as error:
        raise ValueError(_of_head(str(error), head)) from error


def _of_head(sentence: str, head: str) -> str:
    if not head:
        return sentence
    in_file = sentence.replace("`data.", f"`heads.{head}.").replace("`loss.", f"`heads.{head}.loss.")
    return f"head `{head}`: {in_file}"
