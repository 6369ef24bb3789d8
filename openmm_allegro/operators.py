"""Tensor track: spherical harmonics of edges, and the small operator of each atom that stands for a tensor product.

Allegro's tensor features are linear in themselves: layer L maps those of every edge of centre i by the same
matrix T_i, built from a sum over the neighbours of i. So the products of all edges become operators on atoms.

Symbols used in this file
    n  centre atoms        k  neighbour slots       u  tensor channels
    m  components of the spherical harmonics        p  tensor-product paths
    a  components of the features before a layer    b  components after it
"""

import math

import torch
from e3nn import o3
from torch import Tensor
from torch.nn import Parameter


class RaiseOrder(torch.nn.Module):
    """Spherical harmonics of order l from those of order l - 1: a Clebsch-Gordan product with the unit vector."""

    table: Tensor

    def __init__(self, order: int, dtype: torch.dtype) -> None:
        super().__init__()
        probe = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)  # any unit vector fixes the norm and the sign
        lower, wanted = (
            o3.spherical_harmonics(degree, probe, normalize=False, normalization="component")
            for degree in (order - 1, order)
        )
        table = o3.wigner_3j(order - 1, 1, order, dtype=torch.float64)
        raised = torch.einsum("i,j,ijk->k", lower, probe, table)
        table = table * (torch.dot(wanted, raised) / torch.dot(raised, raised))
        self.register_buffer("table", table.reshape(-1, 2 * order + 1).to(dtype), persistent=False)

    def forward(self, lower: Tensor, unit: Tensor) -> Tensor:
        """lower: (n, k, 2l - 1); unit: (n, k, 3). Returns (n, k, 2l + 1)."""
        return torch.matmul((lower.unsqueeze(3) * unit.unsqueeze(2)).flatten(2), self.table)


class SphericalHarmonics(torch.nn.Module):
    """Real spherical harmonics, component-normalised, in e3nn's order and signs."""

    def __init__(self, l_max: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.l_max = l_max
        self.raising = torch.nn.ModuleList([RaiseOrder(order, dtype) for order in range(2, l_max + 1)])

    def forward(self, unit: Tensor) -> list[Tensor]:
        """unit: unit vectors (n, k, 3). Returns for each order l from 0 a tensor (n, k, 2l + 1)."""
        harmonics = [torch.ones_like(unit[:, :, :1])]
        if self.l_max >= 1:
            harmonics.append(math.sqrt(3.0) * unit)
        for raise_order in self.raising:
            harmonics.append(raise_order(harmonics[-1], unit))
        return harmonics


def sum_environment(harmonics: list[Tensor], weights: Tensor, n_channels: int) -> Tensor:
    """Sum over the neighbours of each atom of w_ij[u, l] Y_lm(r̂_ij).

    harmonics: each order (n, k, 2l + 1); weights: (n, k, orders·u), order by order. Returns (n, m, u).
    """
    parts: list[Tensor] = []
    for harmonic, weight in zip(harmonics, torch.split(weights, n_channels, 2)):  # noqa: B905 (TorchScript)
        parts.append(torch.bmm(harmonic.transpose(1, 2), weight))
    return torch.cat(parts, dim=1)


def read_scalars(harmonics: list[Tensor], first: Tensor, readers: Tensor, n_channels: int) -> Tensor:
    """Scalars of each edge: Σ_l c_ij[u, l] Σ_m Y_lm(r̂_ij) g_i[u, lm], the 0e part of its tensor features.

    harmonics: each order (n, k, 2l + 1); first: the weights c (n, k, orders·u), order by order;
    readers: g (n, m, u). Returns (n, k, u).
    """
    weights = torch.split(first, n_channels, 2)
    scalars = weights[0] * readers[:, :1]  # Y_00 is 1
    for order in range(1, len(harmonics)):
        reader = readers.narrow(1, order * order, 2 * order + 1)
        scalars = torch.addcmul(scalars, weights[order], torch.bmm(harmonics[order], reader))
    return scalars


class AtomOperator(torch.nn.Module):
    """One layer's tensor product, as the matrix T_i[u] that it is for all edges of centre i.

    T[a, b] = Σ_{p, m} W[u, p] CG_p[a, m, b] A_i[u, m], with A_i the environment of the centre.
    """

    table: Tensor

    def __init__(
        self,
        irreps_in: list[o3.Irrep],
        irreps_out: list[o3.Irrep],
        environment: list[o3.Irrep],
        n_channels: int,
        coupling: bool,
        dtype: torch.dtype,
    ) -> None:
        """coupling: one weight for each channel and path, else one for each path."""
        super().__init__()
        self.n_channels = n_channels
        self.dim_out = o3.Irreps(irreps_out).dim
        table = path_table(irreps_in, environment, irreps_out).to(dtype)
        self.dim_environment = table.shape[1]
        self.register_buffer("table", table.flatten(1), persistent=False)  # (p, m·a·b)
        weight = torch.empty(n_channels if coupling else 1, table.shape[0], dtype=dtype)
        self.weight = Parameter(weight.uniform_(-math.sqrt(3), math.sqrt(3)))

    def forward(self, environment: Tensor) -> Tensor:
        """environment: A (n, m, u). Returns T (u, n, a, b)."""
        contraction = torch.matmul(self.weight, self.table).view(self.weight.shape[0], self.dim_environment, -1)
        contraction = contraction.expand(self.n_channels, -1, -1)  # (u, m, a·b)
        matrices = torch.bmm(environment.permute(2, 0, 1).contiguous(), contraction)  # strided, bmm would loop
        return matrices.view(self.n_channels, environment.shape[0], -1, self.dim_out)


def telescope(matrices: list[Tensor]) -> Tensor:
    """What reads an edge's scalars from its first tensor features: g = T¹ ⋯ T^{L-1} t^L, t the 0e column of T^L.

    matrices: T of each layer so far, (u, n, a, b). Returns g (n, m, u).
    """
    reader = matrices[-1][:, :, :, 0]
    for layer in range(len(matrices) - 2, -1, -1):
        reader = (matrices[layer] * reader.unsqueeze(2)).sum(3)
    return reader.permute(1, 2, 0).contiguous()


def track_irreps(l_max: int, parity: bool, n_layers: int) -> list[list[o3.Irrep]]:
    """Irreps of the tensor features before the first layer and after each: those that can still reach a scalar."""
    environment = [o3.Irrep(order, (-1) ** order) for order in range(l_max + 1)]
    allowed = [o3.Irrep(order, p) for order in range(l_max + 1) for p in (1, -1)] if parity else environment
    track = [environment]
    for layer in range(n_layers):
        wanted = allowed if layer < n_layers - 1 else [o3.Irrep(0, 1)]
        track.append([out for out in wanted if any(out in a * m for a in track[-1] for m in environment)])
    for layer in range(n_layers - 1, 0, -1):
        useful = track[layer + 1]
        track[layer] = [a for a in track[layer] if any(out in useful for m in environment for out in a * m)]
    return track


def path_table(irreps_in: list[o3.Irrep], environment: list[o3.Irrep], irreps_out: list[o3.Irrep]) -> Tensor:
    """Clebsch-Gordan coefficients of every path, component-normalised, (p, m, a, b) float64."""
    paths: list[Tensor] = []
    size = [o3.Irreps(irreps).dim for irreps in (environment, irreps_in, irreps_out)]
    b = 0
    for out in irreps_out:
        a = 0
        for arg in irreps_in:
            m = 0
            for env in environment:
                if out in arg * env:
                    block = o3.wigner_3j(arg.l, env.l, out.l, dtype=torch.float64) * math.sqrt(out.dim)
                    path = torch.zeros(size, dtype=torch.float64)
                    path[m : m + env.dim, a : a + arg.dim, b : b + out.dim] = block.transpose(0, 1)
                    paths.append(path)
                m += env.dim
            a += arg.dim
        b += out.dim
    return torch.stack(paths)
