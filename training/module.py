"""A training step, a validation and the state of a run, as Lightning calls them."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor

from openmm_allegro.model import Allegro
from openmm_allegro.training import processes
from openmm_allegro.training.batch import Batch
from openmm_allegro.training.config import LossOptions, TrainingConfig
from openmm_allegro.training.heads import HeadBatch, history_columns
from openmm_allegro.training.optimizer import SharpnessAware, build_optimizer
from openmm_allegro.training.predict import LiveAllegro, Prediction, predict, predict_energies
from openmm_allegro.training.processes import TERMS
from openmm_allegro.training.schedule import LearningRate, MovingAverage
from openmm_allegro.units import EV_TO_MEV


class ErrorSums:
    """Sums of a pass over batches, kept on the device so that nothing waits for it.

    Each term of the loss is summed over its labels, so that the mean does not depend on how the batches are cut.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def add(self, terms: Mapping[str, Tensor], prediction: Prediction, batch: Batch) -> None:
        """Take in one batch. terms: of its loss, each the mean over the labels of these frames."""
        with torch.no_grad():
            n_labels = processes.known_labels(batch)
            means = [terms[name].detach().to(n_labels) if name in terms else 0 * n_labels[0] for name in TERMS]
            energy = torch.where(torch.isfinite(batch.energy), (prediction.energy - batch.energy) / batch.n_atoms, 0.0)
            label = batch.forces[:0] if prediction.forces is None else batch.forces
            known = torch.isfinite(label)
            predicted = label if prediction.forces is None else prediction.forces
            forces = torch.where(known, predicted - label, 0.0).to(torch.float64)
            errors = torch.stack([energy.abs().sum(), forces.abs().sum(), forces.square().sum(), known.sum()])
            new = torch.cat([torch.stack(means) * n_labels, n_labels, errors])
            self.sums = new if self.sums is None else self.sums.to(new.device) + new

    def gathered(self, device: torch.device) -> Tensor | None:
        """What all processes have added; None when there is nothing."""
        if processes.count() == 1:
            return self.sums
        own = torch.zeros(10, dtype=torch.float64) if self.sums is None else self.sums
        sums = processes.total(own.to(device))
        return sums if sums[3:6].sum() > 0 else None

    def take(self, device: torch.device) -> dict[str, float]:
        """Means over what all processes added since the last call: loss, and errors in meV/atom and meV/Å."""
        sums = self.gathered(device)
        self.sums = None
        if sums is None:
            return {}
        energy, absolute, squared, n_components = sums[6:].tolist()
        n_energies = float(sums[3])
        means = {"loss": float((sums[:3] / sums[3:6].clamp(min=1)).sum())}
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


@dataclass
class Head:
    """One head while it is trained."""

    name: str
    model: Allegro
    live: LiveAllegro
    loss: LossOptions
    weight: float
    with_forces: bool
    with_stress: bool
    without: list[Tensor]
    """Trained weights that only other heads have."""
    training_errors: ErrorSums
    validation_errors: ErrorSums


class TrainingModule(lightning.LightningModule):
    """The heads with their losses, the optimiser, the learning rate and the moving average of the weights."""

    def __init__(self, models: Mapping[str, Allegro], config: TrainingConfig, steps_per_epoch: int) -> None:
        """models: of the heads by name, which may share weights."""
        super().__init__()
        self.models = torch.nn.ModuleList(models.values())
        self.config = config
        self.learning_rate = LearningRate(config.optimizer)
        self.average = MovingAverage([p for p in self.models.parameters() if p.requires_grad], config.optimizer)
        self.heads = [self._head(name, model) for name, model in models.items()]
        self.optimizer = build_optimizer(self.models, self.average, config.optimizer)
        rho = config.optimizer.sam_rho
        self.sharpness = SharpnessAware(self.average.weights, rho) if rho is not None else None
        self.clock = Clock()
        self.history: list[dict[str, float]] = []
        """One row for each validation."""
        self.steps = 0
        self.steps_per_epoch = steps_per_epoch
        self.steps_between_validations = max(1, round(config.run.validate_every * steps_per_epoch))
        self.max_steps = min([config.run.max_steps or math.inf, (config.run.max_epochs or math.inf) * steps_per_epoch])
        self.max_seconds = 60 * (config.run.max_time_minutes or math.inf)
        self.agreed_progress = 0.0
        """Share of the run that is over, the same for all processes in a step."""
        self.without: list[Tensor] = []
        """Trained weights that the head of the current step does not have."""

    def _head(self, name: str, model: Allegro) -> Head:
        options = self.config.all_heads()[name]
        loss = options.loss or self.config.loss
        return Head(
            name=name,
            model=model,
            live=LiveAllegro(model),
            loss=loss,
            weight=options.weight,
            with_forces=loss.largest("forces") > 0,
            with_stress=loss.largest("stress") > 0,
            without=[weight for weight in self.average.weights if all(weight is not own for own in model.parameters())],
            training_errors=ErrorSums(),
            validation_errors=ErrorSums(),
        )

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
        """The one that the options name."""
        return self.optimizer

    def on_fit_start(self) -> None:
        """The weights are on their device now; the average joins them."""
        self.average.average = [average.to(self.device) for average in self.average.average]

    def training_step(self, batch: HeadBatch, batch_idx: int) -> Tensor:
        """Loss of one batch times the weight of its head; with `sam_rho` that of the weights uphill."""
        self.agreed_progress = self.progress_at(self.agreed_seconds())
        head = self.heads[batch.head]
        self.without = head.without
        loss = self._part_of_loss(head, batch.frames, self.agreed_progress, head.training_errors, training=True)
        if self.sharpness is not None:
            gradients = torch.autograd.grad(loss, self.average.weights, materialize_grads=True)
            self.sharpness.climb([processes.total(gradient) for gradient in gradients])
            loss = self._part_of_loss(head, batch.frames, self.agreed_progress, None, training=True)
        return processes.count() * head.weight * loss  # Lightning averages the gradients of all processes

    def _part_of_loss(
        self, head: Head, batch: Batch, progress: float, errors: ErrorSums | None, training: bool = False
    ) -> Tensor:
        """Part of one process in the loss, noted down with the errors; a batch may have no frame for it."""
        prediction = self._predict(head, batch, training) if len(batch.n_atoms) > 0 else None
        loss, terms = processes.part_of_loss(prediction, batch, head.loss, progress)
        if prediction is not None and errors is not None:
            errors.add(terms, prediction, batch)
        if training and processes.count() > 1:  # every weight must have a gradient in each process
            loss = loss + 0.0 * torch.stack([weight.sum() for weight in self.average.weights]).sum()
        return loss

    def _predict(self, head: Head, batch: Batch, training: bool) -> Prediction:
        """Forces only where they count: in the loss, or in a validation over frames that have them."""
        if head.with_forces or head.with_stress or (not training and bool(torch.isfinite(batch.forces).any())):
            return predict(head.live, batch, head.with_stress, training)
        return predict_energies(head.model, batch, training)

    def on_after_backward(self) -> None:
        """The gradient is known: back from uphill."""
        if self.sharpness is not None:
            self.sharpness.descend()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of this step; clip; weights that the head does not have stay where they are."""
        for weight in self.without:
            weight.grad = None  # zero with several processes, which would move them by their momentum
        lr = self.learning_rate.at(self.steps, self.agreed_progress)
        for group in optimizer.param_groups:
            group["lr"] = lr
        if self.config.optimizer.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.average.weights, self.config.optimizer.gradient_clip)

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """Move the weights, take them into the average, and stop when steps or time are over."""
        super().optimizer_step(*args, **options)
        self.steps += 1
        seconds = self.agreed_seconds()
        self.average.update(self.progress_at(seconds))
        if self.steps >= self.max_steps or seconds >= self.max_seconds:
            self.trainer.should_stop = True

    def validate(self, batches: Iterable[HeadBatch]) -> dict[str, float]:
        """Errors of the averaged weights; adds a row to the history and returns it."""
        self.average.swap()
        for batch in batches:
            head = self.heads[batch.head]
            self._part_of_loss(head, batch.frames.to(self.device), 1.0, head.validation_errors)
        self.average.swap()
        weights = {head.name: head.weight for head in self.heads}
        training = {head.name: head.training_errors.take(self.device) for head in self.heads}
        validation = {head.name: head.validation_errors.take(self.device) for head in self.heads}
        row = {
            "epoch": self.steps / self.steps_per_epoch,
            "step": self.steps,
            "seconds": self.clock.seconds(),
            "learning_rate": self.learning_rate.at(self.steps, self.progress()),
        }
        row |= history_columns("train", training, weights)
        row |= history_columns("validation", validation, weights)
        self.learning_rate.observe(row["validation_loss"])
        self.history.append(row)
        return row

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Add what Lightning does not know of."""
        sums = [head.training_errors.gathered(self.device) for head in self.heads]
        for head, own in zip(self.heads, sums, strict=True):
            head.training_errors.sums = own if processes.is_first() else None
        checkpoint["openmm_allegro"] = {
            "steps": self.steps,
            "seconds": self.clock.seconds(),
            **self.average.state(),
            "learning_rate": self.learning_rate.state(),
            "history": self.history,
            "training_sums": sums,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, dict]) -> None:
        """Go on where the file was written."""
        state = checkpoint["openmm_allegro"]
        self.steps = state["steps"]
        self.clock.before = state["seconds"]
        self.average.restore(state["average_steps"], state["averaged"], state["average"])
        self.learning_rate.restore(state["learning_rate"])
        self.history[:] = state["history"]
        for head, sums in zip(self.heads, state["training_sums"], strict=True):
            head.training_errors.sums = sums if processes.is_first() else None
