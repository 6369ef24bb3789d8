"""The optimisers of a run: torch's, Muon beside AdamW, schedule-free AdamW; and sharpness-aware gradients."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from openmm_allegro.mlp import ScaledLinear
from openmm_allegro.training.config import OptimizerOptions
from openmm_allegro.training.muon import Muon
from openmm_allegro.training.schedule import MovingAverage

Closure = Callable[[], Tensor | float | None]
"""Computes the gradients, and returns the loss."""


def build_optimizer(model: torch.nn.Module, average: MovingAverage, options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimiser of the trained weights; `schedule_free` writes its own average into `average`."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if options.name == "schedule_free":
        return ScheduleFreeAdamW(average, options.lr, options.weight_decay)
    if options.name == "muon":
        return MuonWithAdamW(dense_weights(model), weights, options)
    kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
    return kind(weights, lr=options.lr, weight_decay=options.weight_decay, amsgrad=options.amsgrad, fused=True)


def dense_weights(model: torch.nn.Module) -> list[Parameter]:
    """Weights that act as matrices: those of the dense layers, without the one that reads out a single number."""
    layers = [module for module in model.modules() if isinstance(module, ScaledLinear)]
    return [layer.weight for layer in layers if layer.weight.requires_grad and min(layer.weight.shape) > 1]


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for some matrices, AdamW for the other weights, as one optimiser."""

    def __init__(self, matrices: Sequence[Parameter], weights: Iterable[Parameter], options: OptimizerOptions) -> None:
        """matrices: weights of two dimensions. weights: all weights, the matrices among them.

        Of a model with frozen parts there may be only matrices, or none.
        """
        lr, decay = options.lr, options.weight_decay
        numbers = {id(matrix) for matrix in matrices}
        others = [weight for weight in weights if id(weight) not in numbers]
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            self.parts["muon"] = Muon(matrices, lr, decay)
        if others:
            self.parts["adamw"] = torch.optim.AdamW(others, lr=lr, weight_decay=decay, fused=True)
        super().__init__([{"params": part} for part in (list(matrices), others) if part], {"lr": lr})
        self._share_groups()

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float | None:  # type: ignore[override]
        """One step of both."""
        loss = _evaluated(closure)
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> dict[str, dict]:
        """The states of both."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, dict]) -> None:
        """Go on from the states of both."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self._share_groups()

    def _share_groups(self) -> None:
        """A learning rate that is set here is that of the parts."""
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """Schedule-free AdamW (Defazio et al., "The road less scheduled", arXiv:2405.15682, algorithm 1).

    Gradients are taken at y = (1 - β₁) z + β₁ x, where z makes the steps and x is their average, weighted by the
    squared learning rates; x is the result. The weights of the model hold y; x is kept in `average`.
    """

    def __init__(
        self,
        average: MovingAverage,
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """average: of the weights to train, still as they are. betas: memory of y in x, and of the squares."""
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "betas": betas,
            "eps": eps,
            "steps": 0,
            "sum_of_squares": 0.0,
        }
        super().__init__(average.weights, defaults)
        self.average = average

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | float | None:  # type: ignore[override]
        """Move z, take it into x, and set the weights between them; without a gradient z rests."""
        loss = _evaluated(closure)
        (group,) = self.param_groups
        group["steps"] += 1
        beta1, beta2 = group["betas"]
        lr = group["lr"] * math.sqrt(1 - beta2 ** group["steps"])
        group["sum_of_squares"] += lr**2
        share_of_new = lr**2 / group["sum_of_squares"]
        for y, x in zip(group["params"], self.average.average, strict=True):
            state = self.state[y]
            if not state:
                state["z"], state["squares"], state["steps"] = y.clone(), torch.zeros_like(y), 0
            z, squares = state["z"], state["squares"]
            if y.grad is not None:
                state["steps"] += 1
                own_lr = group["lr"] * math.sqrt(1 - beta2 ** state["steps"])
                squares.mul_(beta2).addcmul_(y.grad, y.grad, value=1 - beta2)
                z.addcdiv_(y.grad, squares.sqrt().add_(group["eps"]), value=-own_lr)
                z.sub_(y, alpha=own_lr * group["weight_decay"])
            x.lerp_(z, share_of_new)
            y.copy_(torch.lerp(z, x, beta1))
        return loss


class SharpnessAware:
    """Sharpness-aware minimisation (Foret et al., arXiv:2010.01412; Allegro-Legato: Ibayashi et al., arXiv:2303.08169).

    The gradient of a step is taken where the loss is highest within a distance, to first order: at w + ρ g/|g|.
    """

    def __init__(self, weights: list[Tensor], rho: float) -> None:
        """rho: distance over all weights together."""
        self.weights = weights
        self.rho = rho
        self.kept: list[Tensor] = []

    @torch.no_grad()
    def climb(self, gradients: Sequence[Tensor]) -> None:
        """Move the weights uphill, in place."""
        self.kept = [weight.clone() for weight in self.weights]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm().clamp(min=1e-30)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight += gradient * (self.rho / norm)

    @torch.no_grad()
    def descend(self) -> None:
        """Bring them back exactly."""
        torch._foreach_copy_(self.weights, self.kept)
        self.kept = []


def _evaluated(closure: Closure | None) -> Tensor | float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
