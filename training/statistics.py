"""What the training frames say about a model before it is trained: types, neighbours, energies.

Symbols used in this file
    f  frames        t  types
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from openmm_allegro.checkpoint import write_whole
from openmm_allegro.config import AllegroConfig
from openmm_allegro.training.batch import FrameDataset
from openmm_allegro.training.config import DataOptions
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.model_options import ModelOptions, allegro_config
from openmm_allegro.training.splits import sums_of

log = logging.getLogger(__name__)
STATISTICS_FILE = "statistics.json"
ZERO_FORCE = 1e-4
"""Smaller forces are roundings of those that symmetry makes zero, as in perfect crystals [eV/Å]."""


@dataclass(frozen=True)
class Statistics:
    """What a model takes from its training frames, in the order of `type_names`."""

    type_names: tuple[str, ...]
    avg_num_neighbors: float
    energy_scales: dict[str, float]
    """Root mean square of the force components, by type [eV/Å, used as eV]."""
    energy_shifts: dict[str, float]
    """Energy of the isolated atom, by type [eV]."""


def store_statistics(statistics: Statistics, r_max: float, path: Path) -> None:
    """Write them as JSON, with the radius of the neighbours [Å]."""
    figures = {"r_max": r_max, **asdict(statistics)}
    write_whole(path, (json.dumps(figures, indent=2, ensure_ascii=False) + "\n").encode())


def log_statistics(statistics: Statistics, r_max: float) -> None:
    """One line each for neighbours, forces and energies."""
    log.info("neighbours of an atom within %g Å: %.4g", r_max, statistics.avg_num_neighbors)
    log.info("force RMS [eV/Å]: %s", _by_type(statistics.energy_scales))
    log.info("energy of each type [eV]: %s", _by_type(statistics.energy_shifts))


def _by_type(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in figures.items())


def types_in(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Chemical symbols of all atoms, by atomic number."""
    return sums_of(frames).symbols


def average_neighbours(*datasets: FrameDataset) -> float:
    """Mean number of neighbours of an atom within the cutoff."""
    return max(sum(data.n_pairs for data in datasets) / sum(data.n_atoms for data in datasets), 1.0)


def force_scales(frames: Sequence[Frame], type_names: Sequence[str]) -> dict[str, float]:
    """Root mean square of the force components on each type of atom [eV/Å]; 1 where there are none but zeros."""
    sums = sums_of(frames)
    sizes = {name: sums.force_rms(name) for name in type_names}
    return {name: size if size > ZERO_FORCE else 1.0 for name, size in sizes.items()}


def fitted_shifts(frames: Sequence[Frame], type_names: Sequence[str]) -> dict[str, float]:
    """Energy of each type [eV] by least squares over the frames' total energies.

    Where the compositions do not tell the types apart (all frames one molecule), this is the
    solution of smallest norm: the sum over a frame is right, the single values are not physical.
    """
    sums = sums_of(frames)
    known = np.isfinite(sums.energies)
    if not known.any():
        return dict.fromkeys(type_names, 0.0)
    counts = sums.counts_of(type_names)[known].astype(np.float64)
    solution = np.linalg.lstsq(counts, sums.energies[known], rcond=1e-8)[0]  # (t,)
    return dict(zip(type_names, solution.tolist(), strict=True))


def isolated_energies(frames: Sequence[Frame], source: str) -> dict[str, float]:
    """Energies of those frames that are isolated atoms [eV]. source: where they came from, for messages."""
    energies: dict[str, float] = {}
    for frame in frames:
        if frame.is_isolated_atom and frame.energy is not None:
            if energies.get(frame.symbols[0], frame.energy) != frame.energy:
                raise ValueError(f"{frame.origin}: a second, other energy of the isolated {frame.symbols[0]}")
            energies[frame.symbols[0]] = frame.energy
    if not energies:
        raise ValueError(f"{source} has no frame of an isolated atom with an energy; set `data.isolated_atoms`")
    return energies


def energy_shifts(
    frames: Sequence[Frame],
    one_atom_frames: Sequence[Frame],
    names: Sequence[str],
    data: DataOptions,
    if_known: Sequence[str] = (),
) -> dict[str, float]:
    """Energy of the isolated atom of each type [eV], as `data.isolated_atoms` asks.

    if_known: types that no frame has, of which a table, a file or the one-atom frames may tell.
    """
    choice = data.isolated_atoms
    if choice is None or choice == "fit":
        return fitted_shifts(frames, names)
    if isinstance(choice, dict):
        energies, source = choice, "`data.isolated_atoms` [eV]"
    elif isinstance(choice, Path):
        energies, source = isolated_energies(read_frames(choice, data), f"`{choice}`"), f"`{choice}`"
    else:
        energies, source = isolated_energies(one_atom_frames, "`data.train`"), "`data.train`"
    missing = [name for name in names if name not in energies]
    if missing:
        raise ValueError(f"{source} has no energy of an isolated {missing[0]}, only of {', '.join(energies)}; add it")
    return {name: energies[name] for name in [*names, *(name for name in if_known if name in energies)]}


def complete_model_options(options: ModelOptions, statistics: Statistics) -> AllegroConfig:
    """What the `[model]` section leaves out is taken from the training frames."""
    from_data: ModelOptions = {
        "type_names": list(statistics.type_names),
        "avg_num_neighbors": statistics.avg_num_neighbors,
        "per_type_energy_scales": dict(statistics.energy_scales),
        "per_type_energy_shifts": dict(statistics.energy_shifts),
    }
    return allegro_config(from_data | options)
