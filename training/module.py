"""A training step, a validation and the state of a run, as Lightning calls them."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import lightning.pytorch as lightning
import torch
from torch import Tensor

from openmm_allegro.model import Allegro
from openmm_allegro.training.batch import Batch
from openmm_allegro.training.config import TrainingConfig
from openmm_allegro.training.loss import weighted_loss
from openmm_allegro.training.optimizer import SharpnessAware, build_optimizer
from openmm_allegro.training.predict import LiveAllegro, Prediction, predict
from openmm_allegro.training.schedule import LearningRate, MovingAverage
from openmm_allegro.units import EV_TO_MEV


class ErrorSums:
    """Sums of a pass over batches, kept on the device so that nothing waits for it."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def add(self, loss: Tensor, prediction: Prediction, batch: Batch) -> None:
        """Take in one batch."""
        with torch.no_grad():
            known, known_forces = torch.isfinite(batch.energy), torch.isfinite(batch.forces)
            energy = torch.where(known, (prediction.energy - batch.energy) / batch.n_atoms, 0.0)
            forces = torch.where(known_forces, prediction.forces - batch.forces, 0.0).to(torch.float64)
            n_frames = len(energy)
            new = torch.stack(
                [
                    loss.detach().to(torch.float64) * n_frames,
                    energy.abs().sum(),
                    forces.abs().sum(),
                    forces.square().sum(),
                ]
            )
            counts = torch.stack([torch.ones_like(known).sum(), known.sum(), known_forces.sum()])
            new = torch.cat([new, counts.to(new)])
            self.sums = new if self.sums is None else self.sums.to(new.device) + new

    def take(self) -> dict[str, float]:
        """Means over what was added since the last call: loss, and errors in meV/atom and meV/Å where labels are."""
        if self.sums is None:
            return {}
        loss, energy, absolute, squared, n_frames, n_energies, n_components = self.sums.tolist()
        self.sums = None
        means = {"loss": loss / n_frames}
        if n_energies > 0:
            means["energy_per_atom_mae_mev"] = energy / n_energies * EV_TO_MEV
        if n_components > 0:
            means["forces_mae_mev_per_angstrom"] = absolute / n_components * EV_TO_MEV
            means["forces_rmse_mev_per_angstrom"] = math.sqrt(squared / n_components) * EV_TO_MEV
        return means


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
        self.live = LiveAllegro(model)
        self.config = config
        self.learning_rate = LearningRate(config.optimizer)
        self.average = MovingAverage([p for p in model.parameters() if p.requires_grad], config.optimizer)
        self.optimizer = build_optimizer(model, self.average, config.optimizer)
        rho = config.optimizer.sam_rho
        self.sharpness = SharpnessAware(self.average.weights, rho) if rho is not None else None
        self.clock = Clock()
        self.training_errors = ErrorSums()
        self.validation_errors = ErrorSums()
        self.history: list[dict[str, float]] = []
        """One row for each validation."""
        self.steps = 0
        self.steps_per_epoch = steps_per_epoch
        self.max_steps = min([config.run.max_steps or math.inf, (config.run.max_epochs or math.inf) * steps_per_epoch])
        self.max_seconds = 60 * (config.run.max_time_minutes or math.inf)
        self.with_stress = config.loss.largest("stress") > 0

    def progress(self) -> float:
        """Share of the run that is over, by the limit that will end it."""
        return min(1.0, max(self.steps / self.max_steps, self.clock.seconds() / self.max_seconds))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one that the options name."""
        return self.optimizer

    def on_fit_start(self) -> None:
        """The weights are on their device now; the average joins them."""
        self.average.average = [average.to(self.device) for average in self.average.average]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; with `sam_rho` that of the weights uphill."""
        prediction = predict(self.live, batch, self.with_stress, training=True)
        loss = weighted_loss(prediction, batch, self.config.loss, self.progress())
        self.training_errors.add(loss, prediction, batch)
        if self.sharpness is not None:
            self.sharpness.climb(torch.autograd.grad(loss, self.average.weights, materialize_grads=True))
            prediction = predict(self.live, batch, self.with_stress, training=True)
            loss = weighted_loss(prediction, batch, self.config.loss, self.progress())
        return loss

    def on_after_backward(self) -> None:
        """The gradient is known: back from uphill."""
        if self.sharpness is not None:
            self.sharpness.descend()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of this step; clip."""
        lr = self.learning_rate.at(self.steps, self.progress())
        for group in optimizer.param_groups:
            group["lr"] = lr
        if self.config.optimizer.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.average.weights, self.config.optimizer.gradient_clip)

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """The weights have moved: take them into the average, and stop when the time is over."""
        self.steps += 1
        self.average.update(self.progress())
        if self.clock.seconds() >= self.max_seconds:
            self.trainer.should_stop = True

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Errors of the averaged weights; adds a row to the history and returns it."""
        self.average.swap()
        for batch in batches:
            on_device = batch.to(self.device)
            prediction = predict(self.live, on_device, self.with_stress)
            loss = weighted_loss(prediction, on_device, self.config.loss)
            self.validation_errors.add(loss, prediction, on_device)
        self.average.swap()
        validation = self.validation_errors.take()
        row = {
            "epoch": self.steps / self.steps_per_epoch,
            "step": self.steps,
            "seconds": self.clock.seconds(),
            "learning_rate": self.learning_rate.at(self.steps, self.progress()),
        }
        row |= {f"train_{name}": value for name, value in self.training_errors.take().items()}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self.learning_rate.observe(validation["loss"])
        self.history.append(row)
        return row

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Add what Lightning does not know of."""
        checkpoint["openmm_allegro"] = {
            "steps": self.steps,
            "seconds": self.clock.seconds(),
            **self.average.state(),
            "learning_rate": self.learning_rate.state(),
            "history": self.history,
            "training_sums": self.training_errors.sums,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, dict]) -> None:
        """Go on where the file was written."""
        state = checkpoint["openmm_allegro"]
        self.steps = state["steps"]
        self.clock.before = state["seconds"]
        self.average.restore(state["average_steps"], state["averaged"], state["average"])
        self.learning_rate.restore(state["learning_rate"])
        self.history[:] = state["history"]
        self.training_errors.sums = state["training_sums"]
