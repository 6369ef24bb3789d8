"""Triton kernels against the formulas they stand for: on a GPU, and in Triton's interpreter on the CPU.

A process runs the kernels in one way only, chosen by TRITON_INTERPRET before Triton is imported. So the tests that
take a `device` run on the GPU here, if there is one, and a second time in an interpreting process of their own.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from conftest import small_model
from torch import Tensor

from openmm_allegro import kernel_operators, kernels
from openmm_allegro.folded import FoldedAllegro
from openmm_allegro.kernels import triton_problem

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed here")
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
DEVICES = ["cpu"] if kernels.INTERPRETED else [pytest.param("cuda", marks=[pytest.mark.cuda, no_cuda])]
on_each_device = pytest.mark.parametrize("device", DEVICES)
SIZES = [(0, 7, 5), (1, 7, 5), (2, 70, 5), (3, 7, 5), (4, 3, 1), (1, 6, 128), (2, 3, 48)]
sizes = pytest.mark.parametrize(("l_max", "n_slots", "n_channels"), SIZES)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
"""For sums of up to 70 products of numbers of order 1, in float64."""
N_ATOMS = 2
ops = torch.ops.openmm_allegro


def columns(n_slots: int, width: int, device: str) -> Tensor:
    """Random (n, k, width) float64 inside a wider array that is not a number elsewhere."""
    wide = torch.full((N_ATOMS, n_slots + 1, width + 5), torch.nan, dtype=torch.float64, device=device)
    inside = wide[:, :n_slots, 3 : width + 3]
    inside.copy_(torch.randn(inside.shape, dtype=torch.float64, device=device))
    return inside


def random_harmonics(l_max: int, n_slots: int, device: str, components_first: bool = False) -> Tensor:
    """Random numbers (n, k, m) in the place of harmonics."""
    n_components = (l_max + 1) ** 2
    if components_first:
        return torch.randn((N_ATOMS, n_components, n_slots), dtype=torch.float64, device=device).transpose(1, 2)
    return torch.randn((N_ATOMS, n_slots, n_components), dtype=torch.float64, device=device)


def random_of_atoms(l_max: int, n_channels: int, device: str) -> Tensor:
    """Random (n, m, u)."""
    return torch.randn((N_ATOMS, (l_max + 1) ** 2, n_channels), dtype=torch.float64, device=device)


def of_components(weights: Tensor, l_max: int) -> Tensor:
    """Weights of every order (n, k, orders·u) repeated for each component of the order: (n, k, m, u)."""
    orders = [order for order in range(l_max + 1) for _ in range(2 * order + 1)]
    return weights.unflatten(2, (l_max + 1, -1))[:, :, orders]


def environment_formula(harmonics: Tensor, weights: Tensor, l_max: int) -> Tensor:
    return torch.einsum("nkm,nkmu->nmu", harmonics, of_components(weights, l_max))


def scalars_formula(harmonics: Tensor, first: Tensor, readers: Tensor, l_max: int) -> Tensor:
    return torch.einsum("nkmu,nkm,nmu->nku", of_components(first, l_max), harmonics, readers)


def slopes_of(formula: Tensor, grad: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(formula, inputs, grad)


@on_each_device
@sizes
@pytest.mark.parametrize("components_first", [False, True])
def test_environment_is_the_sum_over_neighbours(device, l_max, n_slots, n_channels, components_first):
    torch.manual_seed(1)
    harmonics = random_harmonics(l_max, n_slots, device, components_first)
    weights = columns(n_slots, (l_max + 1) * n_channels, device)
    expected = environment_formula(harmonics, weights, l_max)
    torch.testing.assert_close(ops.sum_environment(harmonics, weights), expected, **CLOSE)


@on_each_device
@sizes
@pytest.mark.parametrize("components_first", [False, True])
def test_gradient_of_the_environment_is_that_of_autograd(device, l_max, n_slots, n_channels, components_first):
    torch.manual_seed(2)
    harmonics = random_harmonics(l_max, n_slots, device, components_first)
    weights = columns(n_slots, (l_max + 1) * n_channels, device)
    grad = random_of_atoms(l_max, n_channels, device)
    inputs = [tensor.detach().requires_grad_() for tensor in (harmonics, weights)]
    slope_harmonics, slope_weights = slopes_of(environment_formula(*inputs, l_max), grad, inputs)

    before = random_harmonics(l_max, n_slots, device, components_first)
    grad_harmonics = before.clone()
    grad_weights = ops.sum_environment_gradient(grad, harmonics.detach(), weights.detach(), grad_harmonics)
    torch.testing.assert_close(grad_weights, slope_weights, **CLOSE)
    torch.testing.assert_close(grad_harmonics, before + slope_harmonics, **CLOSE)


@on_each_device
@sizes
@pytest.mark.parametrize("components_first", [False, True])
def test_scalars_are_read_as_in_the_formula(device, l_max, n_slots, n_channels, components_first):
    torch.manual_seed(3)
    harmonics = random_harmonics(l_max, n_slots, device, components_first)
    first = columns(n_slots, (l_max + 1) * n_channels, device)
    readers = random_of_atoms(l_max, n_channels, device)
    expected = scalars_formula(harmonics, first, readers, l_max)
    torch.testing.assert_close(ops.read_scalars(harmonics, first, readers), expected, **CLOSE)


@on_each_device
@sizes
@pytest.mark.parametrize("components_first", [False, True])
def test_gradient_of_the_scalars_is_that_of_autograd(device, l_max, n_slots, n_channels, components_first):
    torch.manual_seed(4)
    harmonics = random_harmonics(l_max, n_slots, device, components_first)
    first = columns(n_slots, (l_max + 1) * n_channels, device)
    readers = random_of_atoms(l_max, n_channels, device)
    grad = columns(n_slots, n_channels, device)
    inputs = [tensor.detach().requires_grad_() for tensor in (harmonics, first, readers)]
    slopes = slopes_of(scalars_formula(*inputs, l_max), grad, inputs)

    grad_harmonics = random_harmonics(l_max, n_slots, device, components_first)
    grad_first = columns(n_slots, (l_max + 1) * n_channels, device)
    before = grad_harmonics.clone(), grad_first.clone()
    arguments = [tensor.detach() for tensor in (grad, harmonics, first, readers)]
    grad_readers = ops.read_scalars_gradient(*arguments, grad_harmonics, grad_first)
    torch.testing.assert_close(grad_harmonics, before[0] + slopes[0], **CLOSE)
    torch.testing.assert_close(grad_first, before[1] + slopes[1], **CLOSE)
    torch.testing.assert_close(grad_readers, slopes[2], **CLOSE)
    whole = torch.as_strided(grad_first, (N_ATOMS, n_slots + 1, grad_first.stride(1)), grad_first.stride(), 0)
    outside = torch.ones_like(whole, dtype=torch.bool)
    outside[:, :n_slots, 3 : grad_first.shape[2] + 3] = False
    assert whole[outside].isnan().all(), "what lies around the columns is left alone"


@on_each_device
@pytest.mark.parametrize("n_features", [1, 13, 200])
@pytest.mark.parametrize("n_rows", [4, 6])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_interpolation_and_its_gradient_are_weighted_rows(device, n_features, n_rows, index):
    torch.manual_seed(5)
    table = torch.randn((20, n_features), dtype=torch.float64, device=device)
    row = torch.randint(0, 21 - n_rows, (11,), device=device)
    row[0] = 20 - n_rows  # the last place
    weights, slopes = torch.randn((2, 11, n_rows), dtype=torch.float64, device=device)
    grad = torch.randn((11, n_features + 3), dtype=torch.float64, device=device)[:, 2 : n_features + 2]
    taken = table[row.unsqueeze(1) + torch.arange(n_rows, device=device)]  # (z, p, f)
    out = ops.interpolate(table, row.to(index), weights)
    torch.testing.assert_close(out, torch.einsum("zp,zpf->zf", weights, taken), **CLOSE)
    slope = ops.interpolate_gradient(grad, table, row.to(index), slopes)
    torch.testing.assert_close(slope, torch.einsum("zp,zpf,zf->z", slopes, taken, grad), **CLOSE)


@on_each_device
def test_single_precision_is_kept(device):
    torch.manual_seed(6)
    harmonics, weights = random_harmonics(2, 40, device), columns(40, 15, device)
    environment = ops.sum_environment(harmonics.float(), weights.float())
    # forty products of order 1, each with a relative error of 6e-8
    torch.testing.assert_close(environment, environment_formula(harmonics, weights, 2).float(), rtol=1e-5, atol=1e-5)


@on_each_device
def test_padding_adds_exactly_nothing(device):
    torch.manual_seed(7)
    harmonics, weights = random_harmonics(2, 9, device), columns(9, 15, device)
    weights[:, 7:] = 0.0
    readers = random_of_atoms(2, 5, device)
    fewer = ops.sum_environment(harmonics[:, :7], weights[:, :7])
    assert torch.equal(ops.sum_environment(harmonics, weights), fewer)
    scalars = ops.read_scalars(harmonics, weights, readers)
    assert not scalars[:, 7:].any()
    grads = [random_harmonics(2, 9, device), columns(9, 15, device)]
    changed = [grad.clone() for grad in grads]
    grad_scalars = torch.ones_like(scalars)
    grad_readers = ops.read_scalars_gradient(grad_scalars, harmonics, weights, readers, *changed)
    assert torch.equal(changed[0][:, 7:], grads[0][:, 7:])
    changed = [grad[:, :7].clone() for grad in grads]
    of_fewer = ops.read_scalars_gradient(grad_scalars[:, :7], harmonics[:, :7], weights[:, :7], readers, *changed)
    assert torch.equal(grad_readers, of_fewer)


@on_each_device
@pytest.mark.parametrize(("n_atoms", "n_slots"), [(0, 4), (3, 0)])
def test_nothing_to_sum_is_no_error(device, n_atoms, n_slots):
    harmonics = torch.zeros((n_atoms, n_slots, 4), device=device)
    weights = torch.zeros((n_atoms, n_slots, 6), device=device)
    environment = ops.sum_environment(harmonics, weights)
    assert torch.equal(environment, torch.zeros((n_atoms, 4, 3), device=device))
    assert ops.sum_environment_gradient(environment, harmonics, weights, harmonics.clone()).shape == weights.shape
    scalars = ops.read_scalars(harmonics, weights, environment)
    assert scalars.shape == (n_atoms, n_slots, 3)
    grads = harmonics.clone(), weights.clone()
    assert torch.equal(ops.read_scalars_gradient(scalars, harmonics, weights, environment, *grads), environment)
    table, row, places = torch.ones((9, 5)), torch.zeros(0, dtype=torch.int64), torch.zeros((0, 4))
    table, row, places = table.to(device), row.to(device), places.to(device)
    assert ops.interpolate(table, row, places).shape == (0, 5)
    assert ops.interpolate_gradient(torch.zeros((0, 5), device=device), table, row, places).shape == (0,)


class Track(torch.nn.Module):
    """Each operator once, their outputs and what they add to."""

    def forward(self, harmonics: Tensor, weights: Tensor, readers: Tensor, row: Tensor) -> list[Tensor]:
        """harmonics: (n, k, m); weights: (n, k, c); readers: (n, m, u); row: (k,). Returns what the operators did."""
        environment = torch.ops.openmm_allegro.sum_environment(harmonics, weights)
        scalars = torch.ops.openmm_allegro.read_scalars(harmonics, weights, readers + environment)
        grad_harmonics = torch.zeros_like(harmonics)
        grad_weights = torch.zeros_like(weights)
        before = grad_harmonics + 1.0  # taken before the next line changes it
        grad_readers = torch.ops.openmm_allegro.read_scalars_gradient(
            scalars, harmonics, weights, readers, grad_harmonics, grad_weights
        )
        after = grad_harmonics + 1.0
        also = torch.ops.openmm_allegro.sum_environment_gradient(grad_readers, harmonics, weights, grad_harmonics)
        table = weights[0]
        out = torch.ops.openmm_allegro.interpolate(table, row, harmonics[0])
        slope = torch.ops.openmm_allegro.interpolate_gradient(out * 2.0, table, row, harmonics[1])
        return [environment, scalars, before, after, grad_harmonics, grad_weights + also, grad_readers, out, slope]


@on_each_device
def test_a_script_calls_the_operators_as_python_does(device, tmp_path):
    torch.manual_seed(8)
    arguments = random_harmonics(1, 7, device), columns(7, 10, device), random_of_atoms(1, 5, device)
    row = torch.tensor([0, 3, 1, 2, 2, 0, 3], device=device)
    expected = Track()(*arguments, row)
    assert torch.equal(expected[2], torch.ones_like(expected[2]))
    assert not torch.equal(expected[2], expected[3])
    scripted = torch.jit.script(Track())
    scripted.save(str(tmp_path / "track.pt"))
    for script in (scripted, torch.jit.load(str(tmp_path / "track.pt"))):
        for _ in range(3):  # from the second call on, TorchScript runs what it has optimised
            for ours, theirs in zip(script(*arguments, row), expected, strict=True):
                assert torch.equal(ours, theirs)


@on_each_device
def test_operators_change_what_their_schema_says(device):
    torch.manual_seed(9)
    harmonics, weights, readers = random_harmonics(1, 7, device), columns(7, 10, device), random_of_atoms(1, 5, device)
    scalars = columns(7, 5, device)
    row, table = torch.tensor([0, 3, 1, 2, 2, 0, 3], device=device), weights[0]
    for name, arguments in {
        "sum_environment": (harmonics, weights),
        "sum_environment_gradient": (readers, harmonics, weights, harmonics.clone()),
        "read_scalars": (harmonics, weights, readers),
        "read_scalars_gradient": (scalars, harmonics, weights, readers, harmonics.clone(), weights.clone()),
        "interpolate": (table, row, harmonics[0]),
        "interpolate_gradient": (table, table, row, harmonics[1]),
    }.items():
        torch.library.opcheck(getattr(ops, name).default, arguments, test_utils="test_schema")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tabulate", [False, True])
@pytest.mark.parametrize("options", [{}, {"l_max": 3, "num_layers": 3}, {"l_max": 0, "num_layers": 1}], ids=str)
def test_a_model_by_kernels_is_the_model(options, tabulate, device):
    model = small_model(**options)
    edges = torch.randn((3, 7, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    edges[1, 4:] = torch.tensor([9.0, 0.0, 0.0])  # padding
    types = torch.tensor([[0, 1, 0, 1, 1, 0, 0]] * 3)
    expected = FoldedAllegro(model, tabulate)(edges, types[:, 1], types)
    by_kernels = FoldedAllegro(model, tabulate, kernels=True).to(device)
    for folded in (by_kernels, torch.jit.script(by_kernels)):
        found = folded(edges.to(device), types[:, 1].to(device), types.to(device))
        for ours, theirs in zip(found, expected, strict=True):  # float64 rounding, in another order of operations
            assert (ours.cpu() - theirs).abs().max() < 1e-12 * theirs.abs().max()


@needs_triton
@pytest.mark.skipif(kernels.INTERPRETED, reason="this is the process that interprets")
def test_the_kernels_in_the_interpreter():
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "cpu", __file__]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert " passed" in done.stdout


@needs_triton
@pytest.mark.skipif(kernels.INTERPRETED, reason="the compiler wants kernels that are not interpreted")
@pytest.mark.parametrize("name", [name for name in dir(kernels) if name.endswith("_kernel")])
def test_the_kernels_compile_for_a_gpu_that_is_not_here(name, tmp_path, monkeypatch):
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def type_of(argument: str) -> str:
        if argument.isupper():
            return "constexpr"
        if argument.startswith("n_") or argument.endswith(("_atom", "_slot", "_component", "_row", "_edge")):
            return "i32"
        return "*i64" if argument == "row" else "*fp32"

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(kernels, name)
    constants = kernel_operators.edge_tile(9, 32) | kernel_operators.table_tile(200, 4) | {"N_TILES": 4}
    signature = {argument: type_of(argument) for argument in kernel.arg_names}
    used = {argument: constants[argument] for argument in signature if argument.isupper()}
    assert compile(ASTSource(kernel, signature, used), target=GPUTarget("cuda", 90, 32)).asm["cubin"]


@pytest.mark.skipif(kernels.INTERPRETED, reason="the interpreter does take tensors of the CPU")
def test_tensors_of_the_cpu_are_refused():
    harmonics, weights = torch.zeros((1, 2, 4)), torch.zeros((1, 2, 6))
    with pytest.raises(ValueError, match="not installed|need a CUDA device|these lie on `cpu`"):
        ops.sum_environment(harmonics, weights)


def test_without_triton_the_operators_are_known_and_say_why_they_do_not_run():
    code = (
        "import sys\n"
        "sys.modules['triton'] = None\n"  # as if it were not installed
        "import torch\n"
        "from openmm_allegro.kernel_operators import triton_problem\n"
        "print(triton_problem())\n"
        "torch.ops.openmm_allegro.sum_environment(torch.zeros((1, 2, 4)), torch.zeros((1, 2, 6)))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "need the package `triton`, which is not installed" in done.stdout
    assert "ValueError: the Triton kernels need the package `triton`" in done.stderr


@no_cuda
@pytest.mark.cuda
def test_with_triton_and_a_gpu_nothing_is_wrong():
    assert triton_problem() is None
