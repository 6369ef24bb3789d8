"""What a run leaves on disk: model files, the state to resume from, the history. Files are replaced whole."""

import csv
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback
from pydantic import JsonValue
from safetensors import SafetensorError

from openmm_allegro.checkpoint import save_model
from openmm_allegro.training import processes
from openmm_allegro.training.heads import InterleavedBatches, own_file, row_of_head
from openmm_allegro.training.module import TrainingModule
from openmm_allegro.training.statistics import STATISTICS_FILE

RESUME_FILE = "resume.ckpt"
HISTORY_FILE = "history.csv"
LEFT_BY_A_STOPPED_START = {
    "tensorboard",
    f"{HISTORY_FILE}.tmp",
    f"{RESUME_FILE}.tmp",
    STATISTICS_FILE,
    f"{STATISTICS_FILE}.tmp",
}
"""What a run may leave in its folder before it can be resumed."""
DIVERGED = 1000.0
"""Times the best validation loss: errors some thirty times as large."""
SECONDS_BETWEEN_SAVES = 10
"""A round without validation that ends sooner after the last resume file does not write one."""


class Keeper(Callback):
    """Validates now and then and writes down the result; all of it is replayed exactly by a resumed run."""

    def __init__(
        self,
        folder: Path,
        validation: InterleavedBatches,
        provenance: Mapping[str, Mapping[str, JsonValue]],
        run_id: dict[str, str],
    ) -> None:
        """provenance: of the model of each head. run_id: what a resumed run must share with this one."""
        self.folder = folder
        self.validation = validation
        self.provenance = provenance
        self.run_id = run_id
        self.next_save = 0.0
        """Moment of `time.monotonic` before which a round's end writes no resume file."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Time counts from here, and whatever stops the run from now on, it can be resumed."""
        assert isinstance(pl_module, TrainingModule)
        pl_module.clock.start()
        if pl_module.steps == 0:
            self.save_resume_file(trainer)
        is_over = pl_module.steps >= pl_module.max_steps or _out_of_patience(pl_module)
        trainer.should_stop |= is_over  # already when it is resumed

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Validate and save the models where it is time for that."""
        assert isinstance(pl_module, TrainingModule)
        if pl_module.steps % pl_module.steps_between_validations != 0:
            return
        self.validate_and_save(pl_module)
        for logger in trainer.loggers:
            logger.log_metrics(pl_module.history[-1], step=pl_module.steps)
        trainer.should_stop |= _out_of_patience(pl_module)
        self.next_save = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the state to resume from, at the end of a whole round."""
        is_whole = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if is_whole and processes.from_the_first(self.next_save - time.monotonic(), pl_module.device) <= 0:
            self.save_resume_file(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Put into the file what a resumed run must share."""
        checkpoint["run_id"] = self.run_id

    def validate_and_save(self, module: TrainingModule) -> None:
        """One validation, and the files that follow from it."""
        row = module.validate(self.validation)
        best = min([earlier["validation_loss"] for earlier in module.history[:-1]], default=math.inf)
        if not row["validation_loss"] < min(DIVERGED * max(best, 1e-12), math.inf):
            raise ValueError(
                f"the training has diverged: the validation loss is {row['validation_loss']:.4g} after step "
                f"{module.steps}, its best was {best:.4g}; start again with a lower `optimizer.lr` (here "
                f"{module.config.optimizer.lr:g}); the best model so far is in `{self.folder}`"
            )
        if processes.is_first():
            self._save(module, row)

    def _save(self, module: TrainingModule, row: dict[str, float]) -> None:
        names = ["last.safetensors"]
        if row["validation_loss"] <= min(earlier["validation_loss"] for earlier in module.history):
            names.append("best.safetensors")
        module.average.swap()
        for head in module.heads:
            training: dict[str, JsonValue] = {
                name: value
                for name, value in row_of_head(row, head.name).items()
                if name.startswith(("validation", "step", "epoch"))
            }
            for name in names:
                path = self.folder / own_file(name, head.name)
                with saving(path):
                    save_model(head.model, path, {**self.provenance[head.name], "training": training})
        module.average.swap()
        with saving(self.folder / HISTORY_FILE):
            _write_history(self.folder / HISTORY_FILE, module.history)

    def save_resume_file(self, trainer: lightning.Trainer) -> None:
        """Lightning's checkpoint under a temporary name, then in the place of the old one."""
        path = self.folder / RESUME_FILE
        temporary = path.with_name(path.name + ".tmp")
        with saving(path):
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                os.replace(temporary, path)
        self.next_save = time.monotonic() + SECONDS_BETWEEN_SAVES


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """A write that fails says what is kept and how to go on."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        path.with_name(path.name + ".tmp").unlink(missing_ok=True)
        raise OSError(
            f"cannot write `{path}`: {error}; what was saved before is intact, make room and go on with `--resume`"
        ) from error


def _out_of_patience(module: TrainingModule) -> bool:
    """Whether the validations have been without improvement for as long as the run lets them."""
    patience = module.config.run.early_stopping_patience
    losses = [row["validation_loss"] for row in module.history]
    return patience is not None and len(losses) > 0 and len(losses) - 1 - losses.index(min(losses)) >= patience


def _write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write one row for each validation, all columns that ever occurred."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
    os.replace(temporary, path)
