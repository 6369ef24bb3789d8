"""A word to the user when the threads of a run wait for cores on which other programs compute."""

import logging
import time

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback

from openmm_allegro.cores import seconds_on_cores

log = logging.getLogger(__name__)
MUCH = 0.25
"""Of the threads' time; two busy programs of as many threads as there are cores wait for half of it."""


class BusyCores(Callback):
    """Tells once when threads wait for a core much of their time: then each waits for all others in every operation."""

    def __init__(self, seconds_between_looks: float = 20.0) -> None:
        self.seconds_between_looks = seconds_between_looks

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to count."""
        self.told = torch.get_num_threads() == 1
        self._count()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Look now and then."""
        if not self.told and time.monotonic() - self.looked > self.seconds_between_looks:
            computed, waited = self.seconds
            self._count()
            self._tell(self.seconds[0] - computed, self.seconds[1] - waited)

    def _count(self) -> None:
        self.looked = time.monotonic()
        self.seconds = seconds_on_cores()

    def _tell(self, computed: float, waited: float) -> None:
        if waited > MUCH * (computed + waited):
            self.told = True
            log.warning(
                "the %d threads of this run waited %.0f %% of their time for cores on which other programs compute, "
                "and for each other; it may be faster with fewer (`run.num_threads = 1`)",
                torch.get_num_threads(),
                100 * waited / (computed + waited),
            )
