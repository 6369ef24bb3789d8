"""How long a step takes: of our force, of its matrix products alone, and of another program on the same weights."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
import openmm
from openmm import unit
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from vesin_torch import NeighborList

from openmm_allegro import units
from openmm_allegro.bench_config import BenchConfig
from openmm_allegro.bench_machine import machine, peak_rss_gib, versions
from openmm_allegro.bench_peers import Start, Stepper, check_installed, make_peer, openmm_stepper
from openmm_allegro.bench_water import water
from openmm_allegro.checkpoint import DTYPES, load_model
from openmm_allegro.config import AllegroConfig
from openmm_allegro.device import chosen_device
from openmm_allegro.force import PRECISIONS, AllegroForce
from openmm_allegro.mlp import ScaledLinear
from openmm_allegro.model import Allegro
from openmm_allegro.structure import Structure, read_structure

TEMPERATURE_K = 300.0
GAS_CONSTANT = 8.314462618e-3
"""[kJ/mol/K]."""
LARGEST_DIFFERENCE = 1e-4
"""Between the energies of two programs, relative; float32 sums in another order differ by 1e-6 or so."""
FEWEST_STEPS = 3
GEMM_ROWS, GEMM_BLOCKS, GEMM_PASSES = 4096, 32, 9


class Times(NamedTuple):
    """Seconds of timed steps."""

    median: float
    lowest: float
    highest: float
    steps: int


def bench(config: BenchConfig) -> dict[str, object]:
    """Time steps of dynamics and return the figures by name: seconds unless a name says otherwise.

    A peer's steps are timed in between ours. Memory is that of our own simulation, before a peer is loaded. Raises
    ValueError when the peer's energy is not ours, because then the two do not compute the same.
    """
    threads, seconds = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(config.threads or threads)
    try:
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder, _progress() as bar:
            torch.manual_seed(config.seed)
            figures = _measured(config, Path(folder), bar)
    finally:
        torch.set_num_threads(threads)
    return figures | {"seconds_in_all": time.perf_counter() - seconds}


def _measured(config: BenchConfig, folder: Path, bar: Progress) -> dict[str, object]:
    task = bar.add_task("system", total=None)
    if config.peer is not None:
        check_installed(config.peer)
    device = chosen_device(config.device)
    structure = water(config.atoms) if config.system is None else read_structure(config.system)
    model = _model(config, structure)
    start = _start(config, structure, device)
    rss_before = peak_rss_gib()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    force = _force(config, model, structure)
    ours = openmm_stepper("openmm-allegro", _system(structure, force), start)
    bar.update(task, description="warm-up")
    energy = ours.energy_kj()
    steps = _warm_up(ours, config, device)
    peak_rss = peak_rss_gib()
    gpu_peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None

    peer, peer_steps, peer_energy = None, 0, None
    if config.peer is not None:
        bar.update(task, description=config.peer)
        peer = make_peer(config.peer, model, start, folder)
        peer_energy = peer.energy_kj()
        _check_same(config.peer, energy, peer_energy)
        peer_steps = _warm_up(peer, config, device)
    bar.update(task, description="steps", total=steps + peer_steps)
    builds_before = _builds(force)
    own_times, peer_times = _interleaved(ours, steps, peer, peer_steps, device, bar, task)
    peak_with_peer = peak_rss_gib() if peer is not None else None

    edges = count_edges(structure, model.config.r_max)
    bar.update(task, description="matrix products", total=None)
    gemm = gemm_seconds(model, edges, device)
    n_atoms = structure.topology.getNumAtoms()
    return {
        "atoms": n_atoms,
        "edges": edges,
        "seconds_per_step": own_times.median,
        "seconds_lowest": own_times.lowest,
        "seconds_highest": own_times.highest,
        "steps": own_times.steps,
        "atom_steps_per_second": n_atoms / own_times.median,
        "peer": config.peer,
        "peer_seconds_per_step": peer_times.median if peer_times else None,
        "peer_lowest": peer_times.lowest if peer_times else None,
        "peer_highest": peer_times.highest if peer_times else None,
        "peer_steps": peer_times.steps if peer_times else None,
        "times_faster": peer_times.median / own_times.median if peer_times else None,
        "gemm_seconds": gemm,
        "times_gemm": own_times.median / gemm if gemm > 0 else None,
        "peak_rss_gib": peak_rss,
        "rss_before_gib": rss_before,
        "peak_rss_with_peer_gib": peak_with_peer,
        "gpu_peak_gib": gpu_peak,
        "neighbour_builds": None if builds_before is None else (_builds(force) or 0) - builds_before,
        "energy_kj_per_mol": energy,
        "peer_energy_kj_per_mol": peer_energy,
        "l_max": model.config.l_max,
        "layers": model.config.num_layers,
        "scalars": model.config.num_scalar_features,
        "channels": model.config.num_tensor_features,
        "cutoff": model.config.r_max,
        "model": str(config.model) if config.model else "random weights",
        "bridge": "python" if isinstance(force, openmm.PythonForce) else "torchforce",
        "platform": start.platform.getName(),
        "device": str(device),
        "precision": config.precision,
        "max_memory": config.max_memory,
        "tabulate": config.tabulate,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "machine": machine(device),
    }


def _model(config: BenchConfig, structure: Structure) -> Allegro:
    """The model of the file, or one with random weights for the structure's elements."""
    dtype = DTYPES[PRECISIONS[config.precision]]
    if config.model is not None:
        return load_model(config.model, dtype)
    elements = {atom.element for atom in structure.topology.atoms()}
    options = AllegroConfig(
        type_names=tuple(element.symbol for element in sorted(elements, key=lambda element: element.atomic_number)),
        r_max=config.cutoff,
        l_max=config.l_max,
        num_layers=config.layers,
        num_scalar_features=config.scalars,
        num_tensor_features=config.channels,
        avg_num_neighbors=100e-3 * 4 / 3 * np.pi * config.cutoff**3,  # water has 100 atoms in a cubic nanometre
    )
    return Allegro(options, dtype)


def _start(config: BenchConfig, structure: Structure, device: torch.device) -> Start:
    masses = np.array([atom.element.mass.value_in_unit(unit.dalton) for atom in structure.topology.atoms()])
    random = np.random.default_rng(config.seed)
    widths = np.sqrt(GAS_CONSTANT * TEMPERATURE_K / masses)[:, None]  # [nm/ps]
    velocities = widths * random.standard_normal((len(masses), 3))
    chosen = _platform(config, device)
    properties = {"Threads": str(config.threads)} if chosen.getName() == "CPU" and config.threads else {}
    if device.type == "cuda" and device.index is not None and "DeviceIndex" in chosen.getPropertyNames():
        properties["DeviceIndex"] = str(device.index)
    return Start(structure, velocities, config.timestep_fs / 1000, chosen, properties, device)


def _platform(config: BenchConfig, device: torch.device) -> openmm.Platform:
    here = [openmm.Platform.getPlatform(index).getName() for index in range(openmm.Platform.getNumPlatforms())]
    name = config.platform
    if name == "auto":
        name = "CUDA" if device.type == "cuda" and "CUDA" in here else "CPU"
    if name not in here:
        raise ValueError(f"`platform` is {name}, but this OpenMM has only {', '.join(here)}")
    return openmm.Platform.getPlatform(name)


def _force(config: BenchConfig, model: Allegro, structure: Structure) -> openmm.Force:
    return AllegroForce(
        model,
        structure.topology,
        bridge=config.bridge,
        device="auto" if config.bridge == "torchforce" else config.device,
        precision=config.precision,
        max_memory=config.max_memory,
        tabulate=config.tabulate,
    )


def _builds(force: openmm.Force) -> int | None:
    """Neighbour lists built so far; only a PythonForce tells."""
    potential = getattr(force, "getPotential", None)
    return None if potential is None else int(potential().neighbors.builds)


def _system(structure: Structure, force: openmm.Force) -> openmm.System:
    system = openmm.System()
    for atom in structure.topology.atoms():
        system.addParticle(atom.element.mass)
    box = structure.topology.getPeriodicBoxVectors()
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(force)
    return system


def _check_same(peer: str, energy: float, peer_energy: float) -> None:
    difference = abs(energy - peer_energy) / max(abs(energy), abs(peer_energy), 1e-12)
    if not difference <= LARGEST_DIFFERENCE:
        raise ValueError(
            f"the energy is {energy:.6g} kJ/mol here and {peer_energy:.6g} kJ/mol in {peer}, {difference:.1g} apart "
            f"relative to it where at most {LARGEST_DIFFERENCE} is rounding; they do not compute the same, so their "
            "times are not compared"
        )


def _warm_up(stepper: Stepper, config: BenchConfig, device: torch.device) -> int:
    """Step until everything is compiled; how many timed steps there is time for."""
    started = time.perf_counter()
    for _ in range(config.warmup):
        seconds = _timed(stepper, device)
        if time.perf_counter() - started > config.max_seconds:
            break
    return min(config.steps, max(FEWEST_STEPS, int(config.max_seconds / seconds)))


def _interleaved(
    ours: Stepper,
    steps: int,
    peer: Stepper | None,
    peer_steps: int,
    device: torch.device,
    bar: Progress,
    task: TaskID,
) -> tuple[Times, Times | None]:
    """Time steps of both in turn; where one has fewer they are spread evenly."""
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    rounds = max(steps, peer_steps)
    for index in range(rounds):
        for name, stepper, count in (("ours", ours, steps), ("peer", peer, peer_steps)):
            if stepper is not None and (index + 1) * count // rounds > index * count // rounds:
                seconds[name].append(_timed(stepper, device))
                bar.advance(task)
    return _times(seconds["ours"]), _times(seconds["peer"]) if peer is not None else None


def _timed(stepper: Stepper, device: torch.device) -> float:
    started = time.perf_counter()
    stepper.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _times(seconds: list[float]) -> Times:
    return Times(float(np.median(seconds)), min(seconds), max(seconds), len(seconds))


def gemm_seconds(model: Allegro, n_edges: int, device: torch.device) -> float:
    """The matrix products of the model's dense networks alone, for the energy and for its gradient [s].

    Every layer multiplies blocks of edges that stay in cache, x (e, i) @ W (i, o) and g (e, o) @ Wᵀ, always from the
    same finite numbers into memory of its own. Measured on some blocks and scaled to all edges.
    """
    rows = max(1, min(GEMM_ROWS, n_edges))
    blocks = max(1, min(GEMM_BLOCKS, n_edges // rows))
    products = []
    for layer in (module for module in model.modules() if isinstance(module, ScaledLinear)):
        weight = (layer.weight.detach() * layer.scale).to(device)
        x, g = (torch.ones((rows, width), dtype=weight.dtype, device=device) for width in weight.shape)
        products.append((x, weight, torch.empty_like(g)))
        products.append((g, weight.T, torch.empty_like(x)))

    def multiply() -> None:
        for _ in range(blocks):
            for left, right, out in products:
                torch.mm(left, right, out=out)

    seconds = [_timed(Stepper("products", multiply, lambda: 0.0), device) for _ in range(GEMM_PASSES + 2)]
    return float(np.median(seconds[2:])) * n_edges / (rows * blocks)


def count_edges(structure: Structure, cutoff: float) -> int:
    """Ordered pairs within the cutoff [Å], images included: what the model's networks see."""
    box = structure.topology.getPeriodicBoxVectors()
    cell = torch.zeros((3, 3), dtype=torch.float64)
    if box is not None:
        cell = torch.tensor([list(v.value_in_unit(unit.angstrom)) for v in box], dtype=torch.float64)
    positions = torch.as_tensor(structure.positions_nm * units.NM_TO_ANGSTROM, dtype=torch.float64)
    (centres,) = NeighborList(cutoff, full_list=False).compute(positions, cell, box is not None, "i")
    return 2 * len(centres)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error when that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal or console.is_jupyter) as bar:
        yield bar
