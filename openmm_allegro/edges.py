"""Edge arrays of the tensor track with gradients written out: harmonics, sums over neighbours, scalars of edges.

Harmonics lie as (n, m, k) here, neighbours last, so that each matrix product reads them as they are.

Symbols used in this file
    n  centre atoms     k  neighbour slots     m  components of the harmonics     d  x, y, z
    u  tensor channels  c  weights of every order, orders·u
"""

import math
from typing import cast

import torch
from torch import Tensor

from openmm_allegro.operators import RaiseOrder, SphericalHarmonics
from openmm_allegro.typed import ModulesOf


class EdgeHarmonics(torch.nn.Module):
    """Real spherical harmonics as `operators.SphericalHarmonics`, component by component."""

    def __init__(self, harmonics: SphericalHarmonics) -> None:
        super().__init__()
        self.l_max = harmonics.l_max
        self.raising = cast(ModulesOf[RaiseOrder], harmonics.raising)

    def tables(self) -> list[Tensor]:
        """For each order from 2 on what raises the one before, ((2l - 1)·3, 2l + 1)."""
        tables: list[Tensor] = []
        for raise_order in self.raising:
            tables.append(raise_order.table)
        return tables

    def forward(self, unit: Tensor) -> list[Tensor]:
        """unit: unit vectors (d, n·k). Returns for each order l from 0 a tensor (2l + 1, n·k)."""
        orders = [torch.ones_like(unit[:1])]
        if self.l_max >= 1:
            orders.append(math.sqrt(3.0) * unit)
        for table in self.tables():
            outer = (orders[-1].unsqueeze(1) * unit.unsqueeze(0)).flatten(0, 1)
            orders.append(torch.mm(table.t(), outer))
        return orders

    def gradient(self, grad: Tensor, orders: list[Tensor], unit: Tensor) -> Tensor:
        """grad: derivative with respect to every component (m, n·k). Returns that for the unit vectors (d, n·k)."""
        grad_unit = torch.zeros_like(unit)
        if self.l_max == 0:
            return grad_unit
        tables = self.tables()
        grad_order = grad[self.l_max * self.l_max :]
        for order in range(self.l_max, 1, -1):
            outer = torch.mm(tables[order - 2], grad_order).view(2 * order - 1, 3, -1)
            grad_unit += (outer * orders[order - 1].unsqueeze(1)).sum(0)
            lower = grad[(order - 1) * (order - 1) : order * order]
            grad_order = lower + (outer * unit.unsqueeze(0)).sum(1)
        return grad_unit.add_(grad_order, alpha=math.sqrt(3.0))


class Edges(torch.nn.Module):
    """Sums over neighbours and scalars of edges, by PyTorch's batched matrix products.

    Weights of all orders are multiplied with all components, and what is not of one order is left out: three times
    the multiplications, but few and large products.
    """

    orders: Tensor

    def __init__(self, l_max: int, n_channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_channels = n_channels
        order = torch.arange(l_max + 1)
        component = torch.arange((l_max + 1) ** 2).unsqueeze(1)
        is_of_order = (component >= order**2) & (component < (order + 1) ** 2)
        self.register_buffer("orders", is_of_order.to(dtype), persistent=False)  # (m, orders)

    def take(self, products: Tensor) -> Tensor:
        """Of components times weights of every order, those of equal order. products: (n, m, c). Returns (n, m, u)."""
        n, m, _ = products.shape
        return (products.view(n, m, -1, self.n_channels) * self.orders.unsqueeze(2)).sum(2)

    def spread(self, components: Tensor) -> Tensor:
        """The opposite: zeros where orders differ. components: (n, m, u). Returns (n, m, c)."""
        return (components.unsqueeze(2) * self.orders.unsqueeze(2)).flatten(2)

    def sum_environment(self, harmonics: Tensor, weights: Tensor) -> Tensor:
        """Σ_j w_ij[u, l] Y_lm(r̂_ij). harmonics: (n, m, k); weights: (n, k, c). Returns (n, m, u)."""
        return self.take(torch.bmm(harmonics, weights))

    def sum_environment_gradient(
        self, grad: Tensor, harmonics: Tensor, weights: Tensor, grad_harmonics: Tensor
    ) -> Tensor:
        """grad: (n, m, u). Adds to grad_harmonics (n, m, k); returns the derivative for the weights (n, k, c)."""
        grad = self.spread(grad)
        grad_harmonics.baddbmm_(grad, weights.transpose(1, 2))
        return torch.bmm(harmonics.transpose(1, 2), grad)

    def read_scalars(self, harmonics: Tensor, first: Tensor, readers: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Σ_l c_ij[u, l] Σ_m Y_lm(r̂_ij) g_i[u, lm].

        harmonics: (n, m, k); first: c (n, k, c); readers: g (n, m, u).
        Returns the scalars (n, k, u), and what the gradient wants back.
        """
        readers = self.spread(readers)
        readings = torch.bmm(harmonics.transpose(1, 2), readers)
        weights, by_order = first.split(self.n_channels, 2), readings.split(self.n_channels, 2)
        scalars = weights[0] * by_order[0]
        for order in range(1, len(weights)):
            scalars.addcmul_(weights[order], by_order[order])
        return scalars, [readers, readings]

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
        n, k, n_channels = grad.shape
        by_order = (n, k, first.shape[2] // n_channels, n_channels)
        weighted = (first.view(by_order) * grad.unsqueeze(2)).flatten(2)
        grad_harmonics.baddbmm_(kept[0], weighted.transpose(1, 2))
        grad_readers = self.take(torch.bmm(harmonics, weighted))
        own = kept[1].view(by_order).mul(grad.unsqueeze(2)).flatten(2)
        return own if grad_first.numel() == 0 else grad_first.add_(own), grad_readers
