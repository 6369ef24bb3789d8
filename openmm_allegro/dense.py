"""Dense networks for dynamics: matrix products without a graph, and gradients written out.

Symbols used in this file
    z  edges        i, o  features before and after a linear map
"""

from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx, once_differentiable

from openmm_allegro.mlp import ScaledLinear
from openmm_allegro.typed import ModulesOf

WeightsOf: TypeAlias = Callable[[torch.nn.Sequential], list[Tensor]]
"""The linear maps of a network with their factors, (i, o)."""
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

if HAS_ONEDNN:

    def product(features: Tensor, weight: Tensor) -> Tensor:
        """features: (z, i), any row stride; weight: (o, i). Returns (z, o).

        In float32 on a processor oneDNN is asked: it uses AVX-512 also where MKL does not (AMD), twice as fast.
        """
        if features.is_cuda or features.dtype != torch.float32 or features.shape[0] == 0:
            return torch.mm(features, weight.t())
        if not torch.jit.is_scripting() and (features.requires_grad or weight.requires_grad):
            return ProductWithGraph.apply(features, weight)
        return torch.ops.mkldnn._linear_pointwise(features, weight, None, "none", [], "")

else:

    def product(features: Tensor, weight: Tensor) -> Tensor:
        """features: (z, i), any row stride; weight: (o, i). Returns (z, o)."""
        return torch.mm(features, weight.t())


class ProductWithGraph(torch.autograd.Function):
    """The same by oneDNN, whose operator knows no derivative; the weights' own is MKL's, which is as fast there."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return torch.ops.mkldnn._linear_pointwise(features, weight, None, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        features, weight = tuple(ctx.saved_tensors)
        wants_features, wants_weight = tuple(ctx.needs_input_grad)
        grad = grad if grad.stride(1) == 1 else grad.contiguous()
        return (
            torch.ops.mkldnn._linear_pointwise(grad, weight.t(), None, "none", [], "") if wants_features else None,
            torch.mm(grad.t(), features) if wants_weight else None,
        )


class Linear(torch.nn.Module):
    """A linear map without bias, with its transpose at hand for the gradient."""

    weight: Tensor
    transposed: Tensor

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        """weight: (i, o)."""
        super().__init__()
        self.register_buffer("weight", weight.t().to(dtype).contiguous(), persistent=False)
        self.register_buffer("transposed", weight.to(dtype).contiguous(), persistent=False)

    def put(self, weight: Tensor) -> None:
        """Take another weight (i, o), with its graph."""
        self.weight = weight.t()
        self.transposed = weight

    def forward(self, features: Tensor) -> Tensor:
        """features: (z, i). Returns (z, o)."""
        return product(features, self.weight)

    def gradient(self, grad: Tensor) -> Tensor:
        """grad: (z, o). Returns (z, i)."""
        return product(grad, self.transposed)


class HiddenLayers(torch.nn.Module):
    """What follows the first linear map of a network, up to its last hidden features."""

    def __init__(self, weights: list[Tensor], nonlinearity: str, is_linear: bool, dtype: torch.dtype) -> None:
        """weights: (i, o) of the linear maps between hidden layers; is_linear: there is no hidden layer."""
        super().__init__()
        linears = torch.nn.ModuleList([Linear(weight, dtype) for weight in weights])
        self.linears = cast(ModulesOf[Linear], linears)
        self.nonlinearity = "none" if is_linear else nonlinearity
        self.n_floats = sum(weight.shape[1] for weight in weights)
        """Kept for the gradient of each edge."""

    def put(self, weights: list[Tensor]) -> None:
        """Take other weights, with their graph."""
        for linear, weight in zip(self.linears, weights, strict=True):
            linear.put(weight)

    def forward(self, before: Tensor) -> tuple[Tensor, list[Tensor]]:
        """before: (z, i), what enters the first nonlinearity. Returns the hidden features, what `gradient` wants."""
        entering = [before]
        hidden = activate(before, self.nonlinearity)
        for linear in self.linears:
            entering.append(linear(hidden))
            hidden = activate(entering[-1], self.nonlinearity)
        return hidden, entering

    def gradient(self, grad: Tensor, entering: list[Tensor]) -> Tensor:
        """grad: derivative with respect to the hidden features. Returns that with respect to `before`."""
        weights: list[Tensor] = []
        for linear in self.linears:
            weights.append(linear.transposed)
        for layer in range(len(weights) - 1, -1, -1):
            grad = product(activate_gradient(grad, entering[layer + 1], self.nonlinearity), weights[layer])
        return activate_gradient(grad, entering[0], self.nonlinearity)


def activate(before: Tensor, nonlinearity: str) -> Tensor:
    """The nonlinearity of that name, of each element."""
    if nonlinearity == "silu":
        return torch.nn.functional.silu(before)
    if nonlinearity == "mish":
        return torch.nn.functional.mish(before)
    if nonlinearity == "gelu":
        return torch.nn.functional.gelu(before)
    return before


def activate_gradient(grad: Tensor, before: Tensor, nonlinearity: str) -> Tensor:
    """grad: derivative with respect to what the nonlinearity returned for `before`. Returns that for `before`."""
    if nonlinearity == "silu":
        if not torch.jit.is_scripting() and (grad.requires_grad or before.requires_grad):
            return SiluSlopeWithGraph.apply(grad, before)
        return torch.ops.aten.silu_backward(grad, before)
    if nonlinearity == "mish":
        if grad.requires_grad or before.requires_grad:  # PyTorch's own knows no derivative
            gate = torch.nn.functional.softplus(before).tanh()
            return grad * (gate + before * torch.sigmoid(before) * (1 - gate.square()))
        return torch.ops.aten.mish_backward(grad, before)
    if nonlinearity == "gelu":
        return torch.ops.aten.gelu_backward(grad, before, approximate="none")
    return grad


class SiluSlopeWithGraph(torch.autograd.Function):
    """grad · silu'(before) in one pass, and in few for its derivatives; PyTorch's own are many."""

    @staticmethod
    def forward(ctx: FunctionCtx, grad: Tensor, before: Tensor) -> Tensor:
        ctx.save_for_backward(grad, before)
        return torch.ops.aten.silu_backward(grad, before)

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, outer: Tensor) -> tuple[Tensor, Tensor]:
        grad, before = tuple(ctx.saved_tensors)
        gate = torch.sigmoid(before)
        half = torch.ops.aten.sigmoid_backward(outer * grad, gate)  # outer·grad·σ(1 - σ)
        curvature = torch.addcmul(half * 2, torch.rsub(gate, 0.5).mul_(2), half * before)
        return torch.ops.aten.silu_backward(outer, before), curvature


def dense_weights(mlp: torch.nn.Sequential) -> list[Tensor]:
    """The linear maps of a network with their factors, (i, o) float64."""
    return [part.weight.detach().to(torch.float64) * part.scale for part in mlp if isinstance(part, ScaledLinear)]


def live_weights(mlp: torch.nn.Sequential) -> list[Tensor]:
    """The same in the network's own precision, with their graph."""
    return [part.weight * part.scale for part in mlp if isinstance(part, ScaledLinear)]
