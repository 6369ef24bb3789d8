"""The edge work of a model by Triton kernels, in place of PyTorch's operators.

Symbols used in this file
    n  centre atoms     k  neighbour slots     m  components of the harmonics
    u  tensor channels  c  weights of every order, orders·u
    z  edges, n·k       f  features of an edge
"""

import torch
from torch import Tensor

import openmm_allegro.kernel_operators  # noqa: F401 (registers torch.ops.openmm_allegro)
from openmm_allegro.two_body import TwoBodyTable


class TritonEdges(torch.nn.Module):
    """As `edges.Edges`: each edge array is read once and written once."""

    def sum_environment(self, harmonics: Tensor, weights: Tensor) -> Tensor:
        """harmonics: (n, m, k); weights: (n, k, c). Returns (n, m, u)."""
        return torch.ops.openmm_allegro.sum_environment(harmonics.transpose(1, 2), weights)

    def sum_environment_gradient(
        self, grad: Tensor, harmonics: Tensor, weights: Tensor, grad_harmonics: Tensor
    ) -> Tensor:
        """grad: (n, m, u). Adds to grad_harmonics (n, m, k); returns the derivative for the weights (n, k, c)."""
        return torch.ops.openmm_allegro.sum_environment_gradient(
            grad, harmonics.transpose(1, 2), weights, grad_harmonics.transpose(1, 2)
        )

    def read_scalars(self, harmonics: Tensor, first: Tensor, readers: Tensor) -> tuple[Tensor, list[Tensor]]:
        """harmonics: (n, m, k); first: (n, k, c); readers: (n, m, u). Returns scalars (n, k, u), and the readers."""
        readers = readers.contiguous()
        return torch.ops.openmm_allegro.read_scalars(harmonics.transpose(1, 2), first, readers), [readers]

    def read_scalars_gradient(
        self,
        grad: Tensor,
        harmonics: Tensor,
        first: Tensor,
        kept: list[Tensor],
        grad_harmonics: Tensor,
        grad_first: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """grad: for the scalars (n, k, u). Adds to grad_harmonics (n, m, k).

        Returns grad_first (n, k, c), empty at the first call, with what is added; and that for the readers (n, m, u).
        """
        if grad_first.numel() == 0:
            grad_first = torch.zeros(first.shape, dtype=first.dtype, device=first.device)
        grad_readers = torch.ops.openmm_allegro.read_scalars_gradient(
            grad, harmonics.transpose(1, 2), first, kept[0], grad_harmonics.transpose(1, 2), grad_first
        )
        return grad_first, grad_readers


class TritonTable(torch.nn.Module):
    """As `two_body.TwoBodyTable`: a slope is contracted where it is made, so that no array of slopes is written."""

    def __init__(self, table: TwoBodyTable) -> None:
        super().__init__()
        self.table = table
        self.n_floats = table.n_floats

    def forward(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """x: (n, k). Returns the features (z, f), and what `gradient` wants back."""
        row, t = self.table.place(x, centre_types, neighbour_types)
        weights = self.table.weights(t, self.table.basis)
        return torch.ops.openmm_allegro.interpolate(self.table.coefficients, row, weights), t, [row]

    def gradient(self, grad: Tensor, t: Tensor, row: list[Tensor]) -> Tensor:
        """grad: (z, f). Returns the derivative with respect to x, (n, k)."""
        slopes = self.table.weights(t, self.table.slope_basis)
        differences = self.table.differences
        return torch.ops.openmm_allegro.interpolate_gradient(grad, differences, row[0], slopes).view_as(t)
