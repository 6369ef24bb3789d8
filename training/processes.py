"""Several processes that train one model: who they are, what they add up, and what the first one decides.

The frames of an optimiser step are dealt out over the processes, and each works out its part of the loss over all of
these frames: the squared errors of its own, divided by the number of labels of all. So the gradients add up to those
of one process with the whole batch, also when frames differ in size or a short batch leaves a process without any.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor

from openmm_allegro.device import chosen_device
from openmm_allegro.training.batch import Batch
from openmm_allegro.training.config import LossOptions, RunOptions
from openmm_allegro.training.loss import sum_of_terms, weighted_terms
from openmm_allegro.training.predict import Prediction

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
"""Where torchrun, Lightning and SLURM number the processes they start."""
TERMS = ("energy", "forces", "stress")
"""Of the loss, by the labels of a batch that they compare with."""


def devices_of_a_node(run: RunOptions) -> int:
    """How many processes train on each node; refuses more of them than there are frames in a batch."""
    count = run.devices
    if not isinstance(count, int):
        count = torch.cuda.device_count() if chosen_device(run.device).type == "cuda" else 1
    if run.batch_size < count * run.num_nodes:
        raise ValueError(
            f"`run.batch_size` is {run.batch_size}, but its frames are dealt out over {count * run.num_nodes} "
            f"processes (`run.devices` times `run.num_nodes`); make it at least {count * run.num_nodes}"
        )
    return count


def is_helper(run: RunOptions) -> bool:
    """Whether this process was started beside a first one, which alone writes files and answers."""
    several = run.devices != 1 or run.num_nodes > 1
    return several and any(os.environ.get(name, "0") != "0" for name in RANK_VARIABLES)


def count() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return count() == 1 or dist.get_rank() == 0


def total(values: Tensor) -> Tensor:
    """The sum over all processes, the same on each."""
    if count() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def from_the_first(value: float, device: torch.device) -> float:
    """A number as the first process has it."""
    if count() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return float(shared)


def known_labels(batch: Batch) -> Tensor:
    """How many labels a batch has for each of `TERMS`, (3,) float64."""
    return torch.stack([torch.isfinite(getattr(batch, term)).sum() for term in TERMS]).to(torch.float64)


def part_of_loss(
    prediction: Prediction | None, batch: Batch, options: LossOptions, progress: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Part of one process in the loss of a step, which is the sum of all parts; and its own terms of the loss.

    prediction: None when this process has no frame of the batch.
    """
    terms = {} if prediction is None else weighted_terms(prediction, batch, options, progress)
    if count() == 1 and terms:
        return sum_of_terms(terms, batch), terms
    known = known_labels(batch)
    shares = dict(zip(TERMS, known / total(known).clamp(min=1), strict=True))
    part = batch.edge_vectors.new_zeros(())
    for name, term in terms.items():
        part = part + (shares[name] * term).to(part.dtype)
    return part, terms
