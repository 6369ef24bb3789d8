"""Dense networks without bias, so that zero in is zero out and everything vanishes at the cutoff."""

import math

import torch
from torch import Tensor
from torch.nn import Parameter

NONLINEARITIES = {
    "silu": torch.nn.SiLU,
    "mish": torch.nn.Mish,
    "gelu": torch.nn.GELU,
    "none": torch.nn.Identity,
}


class ScaledLinear(torch.nn.Module):
    """Linear map whose weights have unit variance; the factor that keeps activations of order one is apart."""

    def __init__(self, n_in: int, n_out: int, gain: float, dtype: torch.dtype) -> None:
        """gain: what the activations' variance lost in the nonlinearity before, as a factor."""
        super().__init__()
        self.scale = gain / math.sqrt(n_in)
        self.weight = Parameter(torch.empty(n_in, n_out, dtype=dtype).uniform_(-math.sqrt(3), math.sqrt(3)))

    def forward(self, features: Tensor) -> Tensor:
        """features: (..., n_in). Returns (..., n_out)."""
        return torch.matmul(features, self.weight * self.scale)


def scalar_mlp(
    n_in: int, n_hidden: list[int], n_out: int, nonlinearity: str, dtype: torch.dtype
) -> torch.nn.Sequential:
    """Dense network with the given hidden widths and a linear last layer."""
    dims = [n_in, *n_hidden, n_out]
    layers: list[torch.nn.Module] = []
    for index in range(len(dims) - 1):
        gain = 1.0 if index == 0 or nonlinearity == "none" else math.sqrt(2)
        if index > 0:
            layers.append(NONLINEARITIES[nonlinearity]())
        layers.append(ScaledLinear(dims[index], dims[index + 1], gain, dtype))
    return torch.nn.Sequential(*layers)
