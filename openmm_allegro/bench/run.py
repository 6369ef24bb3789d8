"""How long a step takes: of our force, of its matrix products alone, and of another program on the same weights."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import openmm
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from openmm_allegro.bench.config import BenchConfig
from openmm_allegro.bench.machine import machine, peak_rss_gib, versions
from openmm_allegro.bench.peers import check_installed, make_peer, openmm_stepper
from openmm_allegro.bench.setup import count_edges, force_of, model_of, start_of, system_of
from openmm_allegro.bench.timing import gemm_seconds, interleaved, warm_up
from openmm_allegro.bench.water import water
from openmm_allegro.device import chosen_device
from openmm_allegro.structure import read_structure

LARGEST_DIFFERENCE = 1e-4
"""Between the energies of two programs, relative; float32 sums in another order differ by 1e-6 or so."""


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
    model = model_of(config, structure)
    start = start_of(config, structure, device)
    rss_before = peak_rss_gib()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    force = force_of(config, model, structure)
    ours = openmm_stepper("openmm-allegro", system_of(structure, force), start)
    bar.update(task, description="warm-up")
    energy = ours.energy_kj()
    steps = warm_up(ours, config, device)
    peak_rss = peak_rss_gib()
    gpu_peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None

    peer, peer_steps, peer_energy = None, 0, None
    if config.peer is not None:
        bar.update(task, description=config.peer)
        peer = make_peer(config.peer, model, start, folder)
        peer_energy = peer.energy_kj()
        _check_same(config.peer, energy, peer_energy)
        peer_steps = warm_up(peer, config, device)
    bar.update(task, description="steps", total=steps + peer_steps)
    builds_before = _builds(force)
    own_times, peer_times = interleaved(ours, steps, peer, peer_steps, device, bar, task)
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


def _builds(force: openmm.Force) -> int | None:
    """Neighbour lists built so far; only a PythonForce tells."""
    potential = getattr(force, "getPotential", None)
    return None if potential is None else int(potential().neighbors.builds)


def _check_same(peer: str, energy: float, peer_energy: float) -> None:
    difference = abs(energy - peer_energy) / max(abs(energy), abs(peer_energy), 1e-12)
    if not difference <= LARGEST_DIFFERENCE:
        raise ValueError(
            f"the energy is {energy:.6g} kJ/mol here and {peer_energy:.6g} kJ/mol in {peer}, {difference:.1g} apart "
            f"relative to it where at most {LARGEST_DIFFERENCE} is rounding; they do not compute the same, so their "
            "times are not compared"
        )


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error when that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal or console.is_jupyter) as bar:
        yield bar
