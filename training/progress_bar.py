"""What a run shows while it works: steps, errors in meV and meV/Å, and the time that is left."""

import logging
import time

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from openmm_allegro.training.heads import heads_in, row_of_head
from openmm_allegro.training.module import TrainingModule

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_BETWEEN_LINES = 60.0
"""Where nothing can be drawn (a file, a queue system), a line this often."""


class ProgressBar(Callback):
    """A bar in a terminal, now and then a line elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.looked = 0.0
        self.line_written = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[errors]}"),
            console=self.console,
            auto_refresh=False,
            disable=not self.console.is_terminal,
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw the bar."""
        self.task = self.bar.add_task("training", total=1.0, left="", errors="")
        self.bar.start()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Look at the clock, and draw only now and then."""
        now = time.monotonic()
        if now - self.looked >= SECONDS_BETWEEN_LOOKS:
            self.looked = now
            self._show(pl_module, now)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the last state on the screen."""
        self._show(pl_module, float("inf"))
        self.bar.stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.bar.stop()

    def _show(self, module: lightning.LightningModule, now: float) -> None:
        assert isinstance(module, TrainingModule)
        progress = module.progress()
        seconds = module.clock.seconds()
        left = f"{_duration(seconds * (1 - progress) / progress)} left" if progress > 0 else ""
        description = f"epoch {module.steps // module.steps_per_epoch} step {module.steps}"
        errors = errors_in_words(module.history)
        self.bar.update(self.task, description=description, completed=progress, refresh=True, left=left, errors=errors)
        if module.history and not self.console.is_terminal and now - self.line_written >= SECONDS_BETWEEN_LINES:
            self.line_written = now
            log.info("%s, %s, %s", description, left, errors)


def errors_in_words(history: list[dict[str, float]]) -> str:
    """The last errors, for a reader."""
    if not history:
        return ""
    names = {"E {:.2f} meV/atom": "energy_per_atom_mae_mev", "F {:.1f} meV/Å": "forces_mae_mev_per_angstrom"}
    heads = []
    for head in heads_in(history[-1]):
        row = row_of_head(history[-1], head)
        known = {words: row.get(f"validation_{name}") for words, name in names.items()}
        errors = ", ".join(words.format(value) for words, value in known.items() if value is not None)
        heads.append(f"{head} {errors}" if head else errors)
    return "validation " + "; ".join(heads)


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
