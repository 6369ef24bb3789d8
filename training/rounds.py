"""The batches of a whole training, cut into rounds."""

from collections.abc import Iterator
from itertools import islice

from openmm_allegro.training.heads import HeadBatch, InterleavedBatches
from openmm_allegro.training.module import TrainingModule

LONGEST_ROUND = 1000
"""Steps: some seconds to minutes."""


class Rounds:
    """What Lightning takes for epochs: parts of the training, after each of which it can be resumed.

    A round is as long as an epoch, or shorter where epochs have many batches; it goes on where the steps of the module
    are, and from one epoch into the next.
    """

    def __init__(self, batches: InterleavedBatches, module: TrainingModule) -> None:
        self.batches = batches
        self.module = module

    def __len__(self) -> int:
        return min(LONGEST_ROUND, len(self.batches))

    def __iter__(self) -> Iterator[HeadBatch]:
        yield from islice(self._from_step(self.module.steps), len(self))

    def _from_step(self, step: int) -> Iterator[HeadBatch]:
        epoch, number = divmod(step, len(self.batches))
        while True:
            yield from self.batches.of_epoch(epoch, number)
            epoch, number = epoch + 1, 0
