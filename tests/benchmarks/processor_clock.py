"""Training that lasts some minutes of the processor, whatever else the machine does: the same clock for all peers.

nequip's configuration names `StopByProcessorTime`, so this file has to be importable by its process.
"""

import time

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback

from openmm_allegro.training.module import Clock


class ProcessorClock(Clock):
    """Seconds that this process has computed, of all its threads together."""

    def start(self) -> None:
        """Begin counting."""
        self.started = time.process_time()

    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + (0.0 if self.started is None else time.process_time() - self.started)


class UseProcessorClock(Callback):
    """Our own training looks at the processor's clock: its learning rate and its end follow it."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Before the first step."""
        pl_module.clock = ProcessorClock()


class StopByProcessorTime(Callback):
    """Ends any training of Lightning."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start = time.process_time()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Reading the data does not count."""
        self.start = time.process_time()

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: object, **more: object) -> None:
        """Look at the clock."""
        if time.process_time() - self.start >= self.seconds:
            trainer.should_stop = True
