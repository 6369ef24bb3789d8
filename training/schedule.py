"""The learning rate over a run, and the moving average of the weights."""

import math

import torch
from torch import Tensor

from openmm_allegro.training.config import OptimizerOptions


class LearningRate:
    """Warm-up, then constant, a cosine over the run, or steps down when the validation error stalls."""

    def __init__(self, options: OptimizerOptions) -> None:
        self.options = options
        self.factor = 1.0
        """What `plateau` has come down to."""
        self.best = math.inf
        self.stalled = 0
        """Validations since the best one."""

    def at(self, step: int, progress: float) -> float:
        """Learning rate of a step (counted from 0). progress: share of the run that is over, 0 to 1."""
        options = self.options
        warmup = min(1.0, (step + 1) / (options.warmup_steps + 1))
        if options.schedule == "cosine":
            share = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
            share = options.final_lr_fraction + (1 - options.final_lr_fraction) * share
        else:
            share = self.factor
        return options.lr * warmup * share

    def observe(self, validation_loss: float) -> None:
        """Tell `plateau` how a validation went."""
        options = self.options
        self.stalled = 0 if validation_loss < self.best else self.stalled + 1
        self.best = min(self.best, validation_loss)
        if options.schedule == "plateau" and self.stalled > options.plateau_patience:
            self.factor = max(self.factor * options.plateau_factor, options.final_lr_fraction)
            self.stalled = 0

    def state(self) -> dict[str, float]:
        """What a resumed run needs."""
        return {"factor": self.factor, "best": self.best, "stalled": self.stalled}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from a saved state."""
        self.factor, self.best, self.stalled = state["factor"], state["best"], int(state["stalled"])


class MovingAverage:
    """Average of the trained weights over the run: what is validated and saved."""

    def __init__(self, weights: list[Tensor], options: OptimizerOptions) -> None:
        self.weights = weights
        self.options = options
        self.steps = 0
        self.averaged = 0
        """Steps that the plain mean has taken in."""
        self.average = [weight.detach().clone() for weight in weights]

    def update(self, progress: float) -> None:
        """Take in the weights of one more step. progress: share of the run that is over, 0 to 1."""
        self.steps += 1
        if self.options.name == "schedule_free":
            return  # the optimiser has done it
        if self.options.average == "swa" and progress > self.options.swa_from:
            self.averaged += 1
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, self._share_of_new())

    def _share_of_new(self) -> float:
        """The s in average ← (1 - s)·average + s·weights; young moving averages forget faster."""
        if self.options.average == "ema":
            return 1 - min(self.options.ema_decay, self.steps / (self.steps + 10))
        return 1 / max(1, self.averaged)  # of the mean of Izmailov et al., arXiv:1803.05407

    def swap(self) -> None:
        """Exchange weights and average, in place; a second call brings them back."""
        with torch.no_grad():
            for weight, average in zip(self.weights, self.average, strict=True):
                kept = weight.detach().clone()
                weight.copy_(average)
                average.copy_(kept)

    def state(self) -> dict[str, int | list[Tensor]]:
        """What a resumed run needs."""
        return {"average_steps": self.steps, "averaged": self.averaged, "average": self.average}

    def restore(self, steps: int, averaged: int, average: list[Tensor]) -> None:
        """Go on from a saved state."""
        self.steps, self.averaged = steps, averaged
        for own, saved in zip(self.average, average, strict=True):
            own.copy_(saved)
