"""Triton kernels for the edge arrays of a model on a GPU, as operators `torch.ops.openmm_allegro.NAME`.

What is done here moves far more numbers than it multiplies, so each kernel reads its edge arrays from memory once
and writes them once, and none makes an array that PyTorch's own operators would need on the way. What sums over
neighbours has a program for each atom and order, which goes through the slots; what does not, a program for each
tile of slots. So nothing is added by two programs, and a result is the same to the last bit each time.

Arrays are float32 or float64. Gradients are operators of their own: autograd does not pass through any of these.
TorchScript can call them once this module is imported. On a CPU they run in Triton's interpreter, for tests, where
TRITON_INTERPRET=1 was set before Triton was imported.

Symbols used in this file
    n  centre atoms     k  neighbour slots             m  components of the harmonics, order by order
    u  tensor channels  c  weights of every order, orders·u, order by order; also those of the first tensors
    z  edges            f  features of a table's row   p  rows that one place in the table needs
    Y  harmonics        w  weights of an environment   A  environment     s  scalars     g  readers
    gX  derivative with respect to X                   x_atom, x_slot, …  strides of X
    SPANS  for each order the power of two that holds its components
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch for CPUs comes without it
    triton = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TILE = 512
"""Elements of an edge array that a program holds at a time: four for each thread."""
MOST_SLOTS = 32
"""Neighbour slots in such a tile at most."""


def triton_problem() -> str | None:
    """Why the operators cannot run on this machine, None if they can."""
    if triton is None:
        return "the Triton kernels need the package `triton`, which is not installed: `pip install triton`"
    if not (INTERPRETED or torch.cuda.is_available()):
        return "the Triton kernels need a CUDA device, and none was found; leave them out or run on a GPU"
    return None


def jit(kernel: Callable[..., None]) -> triton.JITFunction:
    """Compile a kernel when it is first called; without Triton it stays an ordinary function that nobody calls."""
    return kernel if triton is None else triton.jit(kernel)


@jit
def sum_environment_kernel(
    harmonics: tl.tensor,
    weights: tl.tensor,
    environment: tl.tensor,
    n_slots: tl.tensor,
    y_atom: tl.tensor,
    y_slot: tl.tensor,
    y_component: tl.tensor,
    w_atom: tl.tensor,
    w_slot: tl.tensor,
    N_ORDERS: tl.constexpr,
    SPANS: tl.constexpr,
    U: tl.constexpr,
    N_TILES: tl.constexpr,
    TILE_K: tl.constexpr,
    TILE_U: tl.constexpr,
) -> None:
    """One order of one atom: reads its Y (k, 2l + 1) and w (k, u), writes A (2l + 1, u)."""
    atom = (tl.program_id(0) // N_ORDERS).to(tl.int64)
    channel = tl.arange(0, TILE_U)[None, None, :]
    for order in tl.static_range(N_ORDERS):
        if tl.program_id(0) % N_ORDERS == order:
            component = tl.arange(0, SPANS[order])[:, None, None]
            is_component = component < 2 * order + 1
            component += order * order
            total = tl.full((SPANS[order], TILE_K, TILE_U), 0.0, environment.dtype.element_ty)
            for tile in range(N_TILES):
                slot = tile * TILE_K + tl.arange(0, TILE_K)[None, :, None]
                is_slot = slot < n_slots
                at = harmonics + atom * y_atom + slot * y_slot + component * y_component
                y = tl.load(at, is_slot & is_component, 0.0)
                at = weights + atom * w_atom + slot * w_slot + order * U + channel
                w = tl.load(at, is_slot & (channel < U), 0.0)
                total += y * w
            at = environment + (atom * N_ORDERS * N_ORDERS + component) * U + channel
            tl.store(at, tl.sum(total, 1, keep_dims=True), is_component & (channel < U))


@jit
def sum_environment_gradient_kernel(
    grad: tl.tensor,
    harmonics: tl.tensor,
    weights: tl.tensor,
    grad_harmonics: tl.tensor,
    grad_weights: tl.tensor,
    n_slots: tl.tensor,
    y_atom: tl.tensor,
    y_slot: tl.tensor,
    y_component: tl.tensor,
    w_atom: tl.tensor,
    w_slot: tl.tensor,
    gy_atom: tl.tensor,
    gy_slot: tl.tensor,
    gy_component: tl.tensor,
    N_ORDERS: tl.constexpr,
    SPANS: tl.constexpr,
    U: tl.constexpr,
    TILE_K: tl.constexpr,
    TILE_U: tl.constexpr,
) -> None:
    """A tile of slots of one atom: reads its gA (m, u), Y and w, adds to gY, writes gw."""
    n_tiles = tl.cdiv(n_slots, TILE_K)
    atom = (tl.program_id(0) // n_tiles).to(tl.int64)
    slot = (tl.program_id(0) % n_tiles) * TILE_K + tl.arange(0, TILE_K)[None, :, None]
    is_slot = slot < n_slots
    channel = tl.arange(0, TILE_U)[None, None, :]
    is_channel = channel < U
    for order in tl.static_range(N_ORDERS):
        component = tl.arange(0, SPANS[order])[:, None, None]
        is_component = component < 2 * order + 1
        component += order * order
        ga = tl.load(grad + (atom * N_ORDERS * N_ORDERS + component) * U + channel, is_component & is_channel, 0.0)
        at = harmonics + atom * y_atom + slot * y_slot + component * y_component
        y = tl.load(at, is_slot & is_component, 0.0)
        w = tl.load(weights + atom * w_atom + slot * w_slot + order * U + channel, is_slot & is_channel, 0.0)
        gw = tl.sum(y * ga, 0, keep_dims=True)
        at = grad_weights + ((atom * n_slots + slot) * N_ORDERS + order) * U + channel
        tl.store(at, gw, is_slot & is_channel)
        at = grad_harmonics + atom * gy_atom + slot * gy_slot + component * gy_component
        gy = tl.load(at, is_slot & is_component, 0.0)
        tl.store(at, gy + tl.sum(w * ga, 2, keep_dims=True), is_slot & is_component)


@jit
def read_scalars_kernel(
    harmonics: tl.tensor,
    first: tl.tensor,
    readers: tl.tensor,
    scalars: tl.tensor,
    n_slots: tl.tensor,
    y_atom: tl.tensor,
    y_slot: tl.tensor,
    y_component: tl.tensor,
    c_atom: tl.tensor,
    c_slot: tl.tensor,
    N_ORDERS: tl.constexpr,
    SPANS: tl.constexpr,
    U: tl.constexpr,
    TILE_K: tl.constexpr,
    TILE_U: tl.constexpr,
) -> None:
    """A tile of slots of one atom: reads its g (m, u), Y and c, writes s."""
    n_tiles = tl.cdiv(n_slots, TILE_K)
    atom = (tl.program_id(0) // n_tiles).to(tl.int64)
    slot = (tl.program_id(0) % n_tiles) * TILE_K + tl.arange(0, TILE_K)[None, :, None]
    is_slot = slot < n_slots
    channel = tl.arange(0, TILE_U)[None, None, :]
    is_channel = channel < U
    total = tl.full((1, TILE_K, TILE_U), 0.0, scalars.dtype.element_ty)
    for order in tl.static_range(N_ORDERS):
        component = tl.arange(0, SPANS[order])[:, None, None]
        is_component = component < 2 * order + 1
        component += order * order
        g = tl.load(readers + (atom * N_ORDERS * N_ORDERS + component) * U + channel, is_component & is_channel, 0.0)
        at = harmonics + atom * y_atom + slot * y_slot + component * y_component
        y = tl.load(at, is_slot & is_component, 0.0)
        c = tl.load(first + atom * c_atom + slot * c_slot + order * U + channel, is_slot & is_channel, 0.0)
        total += c * tl.sum(y * g, 0, keep_dims=True)
    tl.store(scalars + (atom * n_slots + slot) * U + channel, total, is_slot & is_channel)


@jit
def read_scalars_gradient_kernel(
    grad: tl.tensor,
    harmonics: tl.tensor,
    first: tl.tensor,
    readers: tl.tensor,
    grad_harmonics: tl.tensor,
    grad_first: tl.tensor,
    grad_readers: tl.tensor,
    n_slots: tl.tensor,
    gs_atom: tl.tensor,
    gs_slot: tl.tensor,
    y_atom: tl.tensor,
    y_slot: tl.tensor,
    y_component: tl.tensor,
    c_atom: tl.tensor,
    c_slot: tl.tensor,
    gy_atom: tl.tensor,
    gy_slot: tl.tensor,
    gy_component: tl.tensor,
    gc_atom: tl.tensor,
    gc_slot: tl.tensor,
    N_ORDERS: tl.constexpr,
    SPANS: tl.constexpr,
    U: tl.constexpr,
    N_TILES: tl.constexpr,
    TILE_K: tl.constexpr,
    TILE_U: tl.constexpr,
) -> None:
    """One order of one atom: reads its g, Y and c and the atom's gs, adds to gY and gc, writes gg.

    The programs of an atom's orders run side by side, so gs (k, u) comes from memory once and from the cache then.
    """
    atom = (tl.program_id(0) // N_ORDERS).to(tl.int64)
    channel = tl.arange(0, TILE_U)[None, None, :]
    is_channel = channel < U
    for order in tl.static_range(N_ORDERS):
        if tl.program_id(0) % N_ORDERS == order:
            component = tl.arange(0, SPANS[order])[:, None, None]
            is_component = component < 2 * order + 1
            component += order * order
            of_atom = (atom * N_ORDERS * N_ORDERS + component) * U + channel
            g = tl.load(readers + of_atom, is_component & is_channel, 0.0)
            total = tl.full((SPANS[order], TILE_K, TILE_U), 0.0, grad_readers.dtype.element_ty)
            for tile in range(N_TILES):
                slot = tile * TILE_K + tl.arange(0, TILE_K)[None, :, None]
                is_slot = slot < n_slots
                at = harmonics + atom * y_atom + slot * y_slot + component * y_component
                y = tl.load(at, is_slot & is_component, 0.0)
                gs = tl.load(grad + atom * gs_atom + slot * gs_slot + channel, is_slot & is_channel, 0.0)
                c = tl.load(first + atom * c_atom + slot * c_slot + order * U + channel, is_slot & is_channel, 0.0)
                at = grad_first + atom * gc_atom + slot * gc_slot + order * U + channel
                gc = tl.load(at, is_slot & is_channel, 0.0)
                tl.store(at, gc + gs * tl.sum(y * g, 0, keep_dims=True), is_slot & is_channel)
                c *= gs
                at = grad_harmonics + atom * gy_atom + slot * gy_slot + component * gy_component
                gy = tl.load(at, is_slot & is_component, 0.0)
                tl.store(at, gy + tl.sum(c * g, 2, keep_dims=True), is_slot & is_component)
                total += y * c
            tl.store(grad_readers + of_atom, tl.sum(total, 1, keep_dims=True), is_component & is_channel)


@jit
def interpolate_kernel(
    table: tl.tensor,
    row: tl.tensor,
    weights: tl.tensor,
    out: tl.tensor,
    n_edges: tl.tensor,
    t_row: tl.tensor,
    F: tl.constexpr,
    P: tl.constexpr,
    TILE_Z: tl.constexpr,
    TILE_F: tl.constexpr,
) -> None:
    """A tile of edges and features: reads p rows of the table for each, writes out (z, f)."""
    n_tiles = tl.cdiv(F, TILE_F)
    edge = (tl.program_id(0) // n_tiles).to(tl.int64) * TILE_Z + tl.arange(0, TILE_Z)[:, None]
    feature = (tl.program_id(0) % n_tiles) * TILE_F + tl.arange(0, TILE_F)[None, :]
    is_edge = edge < n_edges
    mask = is_edge & (feature < F)
    start = tl.load(row + edge, is_edge, 0).to(tl.int64)
    total = tl.full((TILE_Z, TILE_F), 0.0, out.dtype.element_ty)
    for j in tl.static_range(P):
        weight = tl.load(weights + edge * P + j, is_edge, 0.0)
        total += weight * tl.load(table + (start + j) * t_row + feature, mask, 0.0)
    tl.store(out + edge * F + feature, total, mask)


@jit
def interpolate_gradient_kernel(
    grad: tl.tensor,
    table: tl.tensor,
    row: tl.tensor,
    slopes: tl.tensor,
    out: tl.tensor,
    n_edges: tl.tensor,
    t_row: tl.tensor,
    g_edge: tl.tensor,
    F: tl.constexpr,
    P: tl.constexpr,
    N_TILES: tl.constexpr,
    TILE_Z: tl.constexpr,
    TILE_F: tl.constexpr,
) -> None:
    """A tile of edges: reads their grad (f) once and p rows of the table for each, writes one number for each."""
    edge = tl.program_id(0).to(tl.int64) * TILE_Z + tl.arange(0, TILE_Z)[:, None]
    is_edge = edge < n_edges
    start = tl.load(row + edge, is_edge, 0).to(tl.int64)
    total = tl.full((TILE_Z, TILE_F), 0.0, out.dtype.element_ty)
    for tile in range(N_TILES):
        feature = tile * TILE_F + tl.arange(0, TILE_F)[None, :]
        mask = is_edge & (feature < F)
        slope = tl.full((TILE_Z, TILE_F), 0.0, out.dtype.element_ty)
        for j in tl.static_range(P):
            weight = tl.load(slopes + edge * P + j, is_edge, 0.0)
            slope += weight * tl.load(table + (start + j) * t_row + feature, mask, 0.0)
        total += slope * tl.load(grad + edge * g_edge + feature, mask, 0.0)
    tl.store(out + edge, tl.sum(total, 1, keep_dims=True), is_edge)


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
