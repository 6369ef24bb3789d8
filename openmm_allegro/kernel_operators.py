"""The Triton kernels as operators `torch.ops.openmm_allegro.NAME`, and the edge work of a model by them.

Gradients are operators of their own: autograd does not pass through any of these. TorchScript can call them once this
module is imported.

Symbols used in this file
    n  centre atoms     k  neighbour slots     m  components of the harmonics, order by order
    u  tensor channels  c  weights of every order, orders·u, order by order
    z  edges            f  features of a table's row                p  rows that one place in the table needs
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from openmm_allegro.kernels import (
    INTERPRETED,
    interpolate_gradient_kernel,
    interpolate_kernel,
    read_scalars_gradient_kernel,
    read_scalars_kernel,
    sum_environment_gradient_kernel,
    sum_environment_kernel,
    triton,
    triton_problem,
)

TILE = 512
"""Elements of an edge array that a program holds at a time: four for each thread."""
MOST_SLOTS = 32
"""Neighbour slots in such a tile at most."""


def sum_environment(harmonics: Tensor, weights: Tensor) -> Tensor:
    """A_i[u, lm] = Σ_j w_ij[u, l] Y_lm(r̂_ij).

    harmonics: (n, k, m), any strides; weights: (n, k, c), here and below perhaps columns of a wider array.
    Returns (n, m, u).
    """
    n, k, m, u = sizes(harmonics, weights)
    environment = weights.new_empty((n, m, u))
    tensors = [harmonics, weights, environment]
    strides = (*harmonics.stride(), *row_strides(weights))
    constants = edge_tile(m, u) | {"N_TILES": cdiv(k, slots_of_tile(u))}
    launch(sum_environment_kernel, n * math.isqrt(m), tensors, (k, *strides), constants)
    return environment


def sum_environment_gradient(grad: Tensor, harmonics: Tensor, weights: Tensor, grad_harmonics: Tensor) -> Tensor:
    """grad: for A (n, m, u). Adds to grad_harmonics (n, k, m), any strides; returns that for the weights (n, k, c)."""
    n, k, m, u = sizes(harmonics, weights)
    assert grad.shape == (n, m, u)
    assert grad_harmonics.shape == harmonics.shape
    grad_weights = weights.new_empty(weights.shape)
    tensors = [grad.contiguous(), harmonics, weights, grad_harmonics, grad_weights]
    strides = (*harmonics.stride(), *row_strides(weights), *grad_harmonics.stride())
    n_programs = n * cdiv(k, slots_of_tile(u))
    launch(sum_environment_gradient_kernel, n_programs, tensors, (k, *strides), edge_tile(m, u))
    return grad_weights


def read_scalars(harmonics: Tensor, first: Tensor, readers: Tensor) -> Tensor:
    """s_ij[u] = Σ_l c_ij[u, l] Σ_m Y_lm(r̂_ij) g_i[u, lm].

    harmonics: (n, k, m), any strides; first: c (n, k, c); readers: g (n, m, u). Returns (n, k, u).
    """
    n, k, m, u = sizes(harmonics, first)
    assert readers.shape == (n, m, u)
    scalars = first.new_empty((n, k, u))
    tensors = [harmonics, first, readers.contiguous(), scalars]
    strides = (*harmonics.stride(), *row_strides(first))
    launch(read_scalars_kernel, n * cdiv(k, slots_of_tile(u)), tensors, (k, *strides), edge_tile(m, u))
    return scalars


def read_scalars_gradient(
    grad: Tensor, harmonics: Tensor, first: Tensor, readers: Tensor, grad_harmonics: Tensor, grad_first: Tensor
) -> Tensor:
    """grad: for the scalars (n, k, u), perhaps columns of a wider array; the next three as in `read_scalars`.

    Adds to grad_harmonics (n, k, m), any strides, and to grad_first (n, k, c). Returns that for the readers (n, m, u).
    """
    n, k, m, u = sizes(harmonics, first)
    assert grad.shape == (n, k, u)
    assert readers.shape == (n, m, u)
    assert grad_harmonics.shape == harmonics.shape
    assert grad_first.shape == first.shape
    grad_readers = readers.new_empty((n, m, u))
    tensors = [grad, harmonics, first, readers.contiguous(), grad_harmonics, grad_first, grad_readers]
    read = (*row_strides(grad), *harmonics.stride(), *row_strides(first))
    strides = (*read, *grad_harmonics.stride(), *row_strides(grad_first))
    constants = edge_tile(m, u) | {"N_TILES": cdiv(k, slots_of_tile(u))}
    launch(read_scalars_gradient_kernel, n * math.isqrt(m), tensors, (k, *strides), constants)
    return grad_readers


def interpolate(table: Tensor, row: Tensor, weights: Tensor) -> Tensor:
    """Σ_j weights[z, j] table[row[z] + j]. table: (rows, f); row: (z,) integers; weights: (z, p). Returns (z, f)."""
    n_edges, n_rows = weights.shape
    n_features = table.shape[1]
    assert row.shape == (n_edges,)
    out = table.new_empty((n_edges, n_features))
    constants = table_tile(n_features, n_rows)
    n_programs = cdiv(n_edges, constants["TILE_Z"]) * cdiv(n_features, constants["TILE_F"])
    tensors = [table, row.contiguous(), weights.contiguous(), out]
    launch(interpolate_kernel, n_programs, tensors, (n_edges, *row_strides(table)), constants)
    return out


def interpolate_gradient(grad: Tensor, table: Tensor, row: Tensor, slopes: Tensor) -> Tensor:
    """Σ_j slopes[z, j] table[row[z] + j] · grad[z]: the derivative for the place, if slopes are those of the weights.

    grad: (z, f), perhaps columns of a wider array; the rest as in `interpolate`. Returns (z,).
    """
    n_edges, n_rows = slopes.shape
    n_features = table.shape[1]
    assert row.shape == (n_edges,)
    assert grad.shape == (n_edges, n_features)
    out = grad.new_empty((n_edges,))
    constants = table_tile(n_features, n_rows)
    tensors = [grad, table, row.contiguous(), slopes.contiguous(), out]
    strides = (*row_strides(table), *row_strides(grad))
    constants["N_TILES"] = cdiv(n_features, constants["TILE_F"])
    launch(interpolate_gradient_kernel, cdiv(n_edges, constants["TILE_Z"]), tensors, (n_edges, *strides), constants)
    return out


def launch(
    kernel: triton.JITFunction,
    n_programs: int,
    tensors: list[Tensor],
    integers: tuple[int, ...],
    constants: Mapping[str, object],
) -> None:
    """Run a kernel where its tensors lie; the integers are sizes and strides, the constants what it is compiled for."""
    device = tensors[0].device
    assert all(tensor.device == device for tensor in tensors)
    if triton is None or not (INTERPRETED or device.type == "cuda"):
        elsewhere = f"the Triton kernels take tensors of a CUDA device, and these lie on `{device}`; move them there"
        raise ValueError(triton_problem() or elsewhere)
    if n_programs > 0:
        with torch.cuda.device_of(tensors[0]):
            kernel[(n_programs,)](*tensors, *integers, **constants)


def sizes(harmonics: Tensor, weights: Tensor) -> tuple[int, int, int, int]:
    """Atoms, slots, components and channels. harmonics: (n, k, m); weights: (n, k, c)."""
    n, k, m = harmonics.shape
    n_orders = math.isqrt(m)
    assert n_orders * n_orders == m
    assert weights.shape[:2] == (n, k)
    assert weights.shape[2] % n_orders == 0
    return n, k, m, weights.shape[2] // n_orders


def row_strides(edges: Tensor) -> tuple[int, ...]:
    """All strides but the last, which must be 1."""
    assert edges.stride(-1) == 1 or edges.shape[-1] == 1
    return edges.stride()[:-1]


@functools.cache
def edge_tile(n_components: int, n_channels: int) -> dict[str, object]:
    """What the kernels of edge arrays are compiled for; Triton wants powers of two."""
    n_orders = math.isqrt(n_components)
    return {
        "N_ORDERS": n_orders,
        "SPANS": tuple(power_of_two(2 * order + 1) for order in range(n_orders)),
        "U": n_channels,
        "TILE_K": slots_of_tile(n_channels),
        "TILE_U": power_of_two(n_channels),
    }


def slots_of_tile(n_channels: int) -> int:
    return max(1, min(MOST_SLOTS, TILE // power_of_two(n_channels)))


def table_tile(n_features: int, n_rows: int) -> dict[str, int]:
    """What the kernels of tables are compiled for."""
    tile_f = min(128, power_of_two(n_features))
    return {"F": n_features, "P": n_rows, "TILE_Z": TILE // tile_f, "TILE_F": tile_f}


def power_of_two(number: int) -> int:
    """The first that is not smaller."""
    return 1 << (number - 1).bit_length()


def cdiv(number: int, size: int) -> int:
    return -(-number // size)


LIBRARY = torch.library.Library("openmm_allegro", "DEF")
for schema, function in (
    ("sum_environment(Tensor harmonics, Tensor weights) -> Tensor", sum_environment),
    (
        "sum_environment_gradient(Tensor grad, Tensor harmonics, Tensor weights, Tensor(a!) grad_harmonics) -> Tensor",
        sum_environment_gradient,
    ),
    ("read_scalars(Tensor harmonics, Tensor first, Tensor readers) -> Tensor", read_scalars),
    (
        "read_scalars_gradient(Tensor grad, Tensor harmonics, Tensor first, Tensor readers, "
        "Tensor(a!) grad_harmonics, Tensor(b!) grad_first) -> Tensor",
        read_scalars_gradient,
    ),
    ("interpolate(Tensor table, Tensor row, Tensor weights) -> Tensor", interpolate),
    ("interpolate_gradient(Tensor grad, Tensor table, Tensor row, Tensor slopes) -> Tensor", interpolate_gradient),
):
    LIBRARY.define(schema)
    LIBRARY.impl(function.__name__, function, "CPU")
    LIBRARY.impl(function.__name__, function, "CUDA")
