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

import os
from collections.abc import Callable

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch for CPUs comes without it
    triton = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


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
