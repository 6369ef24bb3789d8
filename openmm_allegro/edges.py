"""Edge arrays of the tensor track with gradients written out: harmonics, sums over neighbours, scalars of edges.

Harmonics lie as (n, m, k) here, neighbours last, so that each matrix product reads them as they are.

Symbols used in this file
    n  centre atoms     k  neighbour slots     m  components of the harmonics     d  x, y, z
    u  tensor channels  c  weights of every order, orders·u
"""

import math

import torch
from torch import Tensor

from openmm_allegro.operators import SphericalHarmonics


class EdgeHarmonics(torch.nn.Module):
    """Real spherical harmonics as `operators.SphericalHarmonics`, component by component."""

    def __init__(self, harmonics: SphericalHarmonics) -> None:
        super().__init__()
        self.l_max = harmonics.l_max
        self.raising = harmonics.raising

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


def take_orders(products: Tensor, n_channels: int) -> Tensor:
    """Of components times weights of every order, those of equal order. products: (n, m, c). Returns (n, m, u)."""
    parts: list[Tensor] = []
    for order in range(products.shape[2] // n_channels):
        rows = products.narrow(1, order * order, 2 * order + 1)
        parts.append(rows.narrow(2, order * n_channels, n_channels))
    return torch.cat(parts, dim=1)


def spread_orders(components: Tensor, orders: Tensor) -> Tensor:
    """The opposite: zeros where orders differ. components: (n, m, u); orders: (m, orders) 0 or 1. Returns (n, m, c)."""
    return (components.unsqueeze(2) * orders.unsqueeze(2)).flatten(2)


def sum_environment(harmonics: Tensor, weights: Tensor, n_channels: int) -> Tensor:
    """Σ_j w_ij[u, l] Y_lm(r̂_ij). harmonics: (n, m, k); weights: (n, k, c). Returns (n, m, u)."""
    return take_orders(torch.bmm(harmonics, weights), n_channels)


def sum_environment_gradient(grad: Tensor, harmonics: Tensor, weights: Tensor, grad_harmonics: Tensor) -> Tensor:
    """grad: (n, m, c), spread. Adds to grad_harmonics (n, m, k); returns the derivative for the weights (n, k, c)."""
    grad_harmonics.baddbmm_(grad, weights.transpose(1, 2))
    return torch.bmm(harmonics.transpose(1, 2), grad)


def read_scalars(harmonics: Tensor, first: Tensor, readers: Tensor, n_channels: int) -> tuple[Tensor, Tensor]:
    """Σ_l c_ij[u, l] Σ_m Y_lm(r̂_ij) g_i[u, lm].

    harmonics: (n, m, k); first: c (n, k, c); readers: g (n, m, c), spread.
    Returns the scalars (n, k, u), and what multiplied c in them (n, k, c).
    """
    readings = torch.bmm(harmonics.transpose(1, 2), readers)
    scalars = first.narrow(2, 0, n_channels) * readings.narrow(2, 0, n_channels)
    for start in range(n_channels, first.shape[2], n_channels):
        scalars.addcmul_(first.narrow(2, start, n_channels), readings.narrow(2, start, n_channels))
    return scalars, readings


def read_scalars_gradient(
    grad: Tensor, harmonics: Tensor, first: Tensor, readers: Tensor, readings: Tensor, grad_harmonics: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivatives for c (n, k, c), in the memory of `readings`, and for the readers (n, m, c), not masked by order.

    grad: (n, k, u), for the scalars; the rest as in `read_scalars`. Adds to grad_harmonics (n, m, k).
    """
    n, k, n_channels = grad.shape
    by_order = (n, k, first.shape[2] // n_channels, n_channels)
    weighted = (first.view(by_order) * grad.unsqueeze(2)).flatten(2)
    grad_harmonics.baddbmm_(readers, weighted.transpose(1, 2))
    grad_readers = torch.bmm(harmonics, weighted)
    return readings.view(by_order).mul_(grad.unsqueeze(2)).flatten(2), grad_readers
