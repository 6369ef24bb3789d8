"""A training step, a validation and the state of a run, as Lightning calls them."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import lightning.pytorch as lightning
import torch
from torch import Tensor

from openmm_allegro.model import Allegro
from openmm_allegro.training import processes
from openmm_allegro.training.batch import Batch
from openmm_allegro.training.config import TrainingConfig
from openmm_allegro.training.predict import Prediction, predict
from openmm_allegro.training.schedule import LearningRate, MovingAverage
from openmm_allegro.units import EV_TO_MEV


class ErrorSums:
    """Sums of a pass over batches, kept on the device so that nothing waits for it."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def add(self, loss: Tensor, loss_frames: Tensor, prediction: Prediction, batch: Batch) -> None:
        """Take in one batch. loss: this process's part of the loss over so many frames of all processes."""
        with torch.no_grad():
            energy = (prediction.energy - batch.energy) / batch.n_atoms
            forces = (prediction.forces - batch.forces).to(torch.float64)
            n_frames = len(energy)
            new = torch.stack(
                [
                    loss.detach().to(torch.float64) * loss_frames,
                    energy.abs().sum(),
                    forces.abs().sum(),
                    forces.square().sum(),
                ]
            )
            counts = new.new_tensor([n_frames, forces.numel()])
            new = torch.cat([new, counts])
            self.sums = new if self.sums is None else self.sums.to(new.device) + new

    def gathered(self, device: torch.device) -> Tensor | None:
        """What all processes have added; None when there is nothing."""
        if processes.count() == 1:
            return self.sums
        own = torch.zeros(6, dtype=torch.float64) if self.sums is None else self.sums
        sums = processes.total(own.to(device))
        return sums if sums[4] > 0 else None

    def take(self, device: torch.device) -> dict[str, float]:
        """Means over what all processes added since the last call: loss, and errors in meV/atom and meV/Å."""
        sums = self.gathered(device)
        self.sums = None
        if sums is None:
            return {}
        loss, energy, absolute, squared, n_frames, n_components = sums.tolist()
        return {
            "loss": loss / n_frames,
            "energy_per_atom_mae_mev": energy / n_frames * EV_TO_MEV,
            "forces_mae_mev_per_angstrom": absolute / n_components * EV_TO_MEV,
            "forces_rmse_mev_per_angstrom": math.sqrt(squared / n_components) * EV_TO_MEV,
        }


@dataclass
class Clock:
    """Seconds of training, over all parts of an interrupted run."""

    before: float = 0.0
    started: float | None = None

    def start(self) -> None:
        """Begin counting."""
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + (0.0 if self.started is None else time.monotonic() - self.started)


class TrainingModule(lightning.LightningModule):
    """A model with its loss, its optimiser, the learning rate and the moving average of its weights."""

    def __init__(self, model: Allegro, config: TrainingConfig, steps_per_epoch: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.learning_rate = LearningRate(config.optimizer)
        self.average = MovingAverage([p for p in model.parameters() if p.requires_grad], config.optimizer.ema_decay)
        self.clock = Clock()
        self.training_errors = ErrorSums()
        self.validation_errors = ErrorSums()
        self.history: list[dict[str, float]] = []
        """One row for each validation."""
        self.steps = 0
        self.steps_per_epoch = steps_per_epoch
        self.max_steps = min([config.run.max_steps or math.inf, (config.run.max_epochs or math.inf) * steps_per_epoch])
        self.max_seconds = 60 * (config.run.max_time_minutes or math.inf)
        self.with_stress = config.loss.stress > 0

    def progress(self) -> float:
        """Share of the run that is over, by the limit that will end it."""
        return self.progress_at(self.clock.seconds())

    def progress_at(self, seconds: float) -> float:
        """The same at another moment."""
        return min(1.0, max(self.steps / self.max_steps, seconds / self.max_seconds))

    def agreed_seconds(self) -> float:
        """Seconds of training, by the clock of the first process where the time limit depends on it."""
        seconds = self.clock.seconds()
        return processes.from_the_first(seconds, self.device) if self.max_seconds < math.inf else seconds

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, in one fused kernel."""
        options = self.config.optimizer
        kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
        return kind(
            self.average.weights,
            lr=options.lr,
            weight_decay=options.weight_decay,
            amsgrad=options.amsgrad,
            fused=True,
        )

    def on_fit_start(self) -> None:
        """The weights are on their device now; the average joins them."""
        self.average.average = [average.to(self.device) for average in self.average.average]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        loss = self._part_of_loss(batch, self.training_errors, training=True)
        if processes.count() == 1:
            return loss
        # Lightning averages the gradients of all processes, and wants every weight to have one in each
        return processes.count() * loss + 0.0 * torch.stack([weight.sum() for weight in self.average.weights]).sum()

    def _part_of_loss(self, batch: Batch, errors: ErrorSums, training: bool = False) -> Tensor:
        """Part of one process in the loss, noted down with the errors; a batch may have no frame for it."""
        prediction = predict(self.model, batch, self.with_stress, training) if len(batch.n_atoms) > 0 else None
        loss, n_frames = processes.part_of_loss(prediction, batch, self.config.loss)
        if prediction is not None:
            errors.add(loss, n_frames, prediction, batch)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of this step; clip."""
        lr = self.learning_rate.at(self.steps, self.progress_at(self.agreed_seconds()))
        for group in optimizer.param_groups:
            group["lr"] = lr
        if self.config.optimizer.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.average.weights, self.config.optimizer.gradient_clip)

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """The weights have moved: take them into the average, and stop when the time is over."""
        self.steps += 1
        self.average.update()
        if self.agreed_seconds() >= self.max_seconds:
            self.trainer.should_stop = True

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Errors of the averaged weights; adds a row to the history and returns it."""
        self.average.swap()
        for batch in batches:
            self._part_of_loss(batch.to(self.device), self.validation_errors)
        self.average.swap()
        validation = self.validation_errors.take(self.device)
        row = {
            "epoch": self.steps / self.steps_per_epoch,
            "step": self.steps,
            "seconds": self.clock.seconds(),
            "learning_rate": self.learning_rate.at(self.steps, self.progress()),
        }
        row |= {f"train_{name}": value for name, value in self.training_errors.take(self.device).items()}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self.learning_rate.observe(validation["loss"])
        self.history.append(row)
        return row

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Add what Lightning does not know of."""
        sums = self.training_errors.gathered(self.device)
        self.training_errors.sums = sums if processes.is_first() else None
        checkpoint["openmm_allegro"] = {
            "steps": self.steps,
            "seconds": self.clock.seconds(),
            "average_steps": self.average.steps,
            "average": self.average.average,
            "learning_rate": self.learning_rate.state(),
            "history": self.history,
            "training_sums": sums,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, dict]) -> None:
        """Go on where the file was written."""
        state = checkpoint["openmm_allegro"]
        self.steps = state["steps"]
        self.clock.before = state["seconds"]
        self.average.restore(state["average_steps"], state["average"])
        self.learning_rate.restore(state["learning_rate"])
        self.history[:] = state["history"]
        self.training_errors.sums = state["training_sums"] if processes.is_first() else None
