"""Which frames of a trajectory to label next: those whose forces are most uncertain, and unlike each other.

Symbols used in this file
    f  frames        n  atoms        d  features of a frame
"""

import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch  # isort: skip  (before mdtraj, which imports openmm)
import ase
import ase.io
import mdtraj
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from openmm_allegro import units
from openmm_allegro.analysis.topology_file import read_topology
from openmm_allegro.checkpoint import write_whole
from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble import NOT_CALIBRATED, Ensemble
from openmm_allegro.ensemble_file import load_ensemble
from openmm_allegro.last_layer import last_features, last_weights
from openmm_allegro.model import Allegro
from openmm_allegro.neighbors import Neighbors, pad_rows
from openmm_allegro.outputs import check_outputs
from openmm_allegro.potential import even_blocks, usual_block_edges
from openmm_allegro.spread import Members, frame_with_spread
from openmm_allegro.xyz_text import check_file

Array = NDArray[np.float64]
COLUMNS = (
    "frame",
    "energy_spread_mev_per_atom",
    "mean_force_spread_mev_per_angstrom",
    "largest_force_spread_mev_per_angstrom",
    "atom",
    "selected",
)
CANDIDATES_PER_FRAME = 5
"""The most uncertain frames among which the farthest from each other are chosen, for each frame asked for."""
CHUNK = 100
"""Frames of a trajectory in memory at once."""


class Row(NamedTuple):
    """What is known of one frame."""

    energy: float
    """Calibrated spread [meV/atom]."""
    mean: float
    """Over the atoms, of the spread of a force component [meV/Å]."""
    largest: float
    """[meV/Å]."""
    atom: int
    """The one that has it."""


def select_frames(
    trajectory: str | Path,
    topology: str | Path | None,
    ensemble: Ensemble | str | Path,
    output: str | Path,
    *,
    count: int = 50,
    max_spread: float = 2000.0,
    device: str = "auto",
) -> dict[str, object]:
    """Choose frames for labelling and write them with a CSV of all spreads.

    Of the frames whose largest calibrated force spread is at most `max_spread`, the `CANDIDATES_PER_FRAME` · `count`
    most uncertain are candidates. The most uncertain is taken, then again and again the candidate farthest from those
    taken (farthest-point sampling; Eldar et al. 1997), by the Euclidean distance of the last layer's features,
    summed over the atoms of each type, per atom of the frame, and scaled to unit variance over the candidates.

    Parameters
    ----------
    trajectory
        DCD, XTC or what else mdtraj reads; or frames that ASE reads, such as extended XYZ, without a topology.
    topology
        Structure file of the same atoms; None for frames that ASE reads.
    output
        Extended XYZ file to write, with `frame`, `energy_spread` [eV] and the array `force_spread` [eV/Å]; the CSV
        file beside it is named after it.
    count
        Frames to choose.
    max_spread
        A frame with a larger spread [meV/Å] is taken for broken geometry, of no use for training, and skipped.
    """
    if count < 1:
        raise ValueError(f"`count` is {count}; it must be at least 1")
    if not max_spread > 0:
        raise ValueError(f"`max_spread` is {max_spread} meV/Å; it must be above zero")
    path, output = Path(trajectory), Path(output)
    table = output.with_suffix(".csv")
    if output.suffix.lower() not in (".xyz", ".extxyz"):
        raise ValueError(f"`output` is `{output}`, but extended XYZ is written; name it `{output.stem}.extxyz`")
    check_outputs([output, table], [path, topology, None if isinstance(ensemble, Ensemble) else ensemble])
    if not isinstance(ensemble, Ensemble):
        ensemble = load_ensemble(ensemble)
    if ensemble.factors is None:
        warnings.warn(f"{NOT_CALIBRATED}, or `max_spread` is of another scale", stacklevel=2)
    rows, features = _measured(_shown(_frames(path, topology), "spread"), ensemble, chosen_device(device))
    chosen = chosen_frames(rows, features, count, max_spread)
    if not chosen:
        raise ValueError(
            f"all {len(rows)} frames of `{path}` have forces with a spread above {max_spread:g} meV/Å; look at them, "
            "or raise `max_spread`"
        )
    write_whole(output, _with_spreads(_frames(path, topology), chosen, ensemble).encode())
    write_whole(table, _table(rows, set(chosen)).encode())
    return {
        "file": output,
        "spreads": table,
        "frames": len(rows),
        "skipped": sum(row.largest > max_spread for row in rows),
        "selected": len(chosen),
        "largest_spread_mev_per_angstrom": max(rows[index].largest for index in chosen),
        "smallest_spread_mev_per_angstrom": min(rows[index].largest for index in chosen),
    }


def chosen_frames(rows: Sequence[Row], features: Array, count: int, max_spread: float) -> list[int]:
    """Numbers of the frames to label, in their order of choice. features: (f, d)."""
    largest = np.array([row.largest for row in rows])
    order = [int(index) for index in np.argsort(-largest, kind="stable") if largest[index] <= max_spread]
    candidates = order[: CANDIDATES_PER_FRAME * count]
    if not candidates:
        return []
    of_candidates = features[candidates]
    width = of_candidates.std(0)
    places = of_candidates / np.where(width > 0, width, 1.0)
    taken = farthest_points(places, min(count, len(candidates)))
    return [candidates[index] for index in taken]


def farthest_points(places: Array, count: int) -> list[int]:
    """The first point, then each time that which is farthest from all before. places: (points, d)."""
    taken = [0]
    nearest = np.linalg.norm(places - places[0], axis=1)
    while len(taken) < count:
        nearest[taken] = -1.0
        taken.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(places - places[taken[-1]], axis=1))
    return taken


def _frames(path: Path, topology: str | Path | None) -> Iterator[ase.Atoms]:
    """The frames of a file, a few in memory at a time."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file `{path}`")
    if topology is None:
        if path.suffix.lower() in (".dcd", ".xtc", ".trr", ".nc"):
            raise ValueError(f"`{path.name}` does not say which atoms it holds; give the structure file of the run")
        yield from _frames_of_ase(path)
        return
    atoms = read_topology(topology)
    symbols = [atom.name if atom.element is None else atom.element.symbol for atom in atoms.atoms]
    for chunk in _chunks(path, atoms):
        cells = chunk.unitcell_vectors
        for index, positions in enumerate(chunk.xyz):
            cell = None if cells is None else cells[index].astype(np.float64) * units.NM_TO_ANGSTROM
            places = positions.astype(np.float64) * units.NM_TO_ANGSTROM
            yield ase.Atoms(symbols, places, cell=cell, pbc=cell is not None)


def _frames_of_ase(path: Path) -> Iterator[ase.Atoms]:
    try:
        check_file(path)
        yield from ase.io.iread(path, index=":")
    except Exception as error:  # every format of ASE fails in its own way
        raise ValueError(
            f"cannot read `{path}` with ASE ({str(error) or type(error).__name__}); give extended XYZ, or a trajectory "
            "and its structure file"
        ) from error


def _chunks(path: Path, atoms: mdtraj.Topology) -> Iterator[mdtraj.Trajectory]:
    try:
        yield from mdtraj.iterload(str(path), top=atoms, chunk=CHUNK)
    except ValueError as error:
        raise ValueError(
            f"cannot read `{path}` with a topology of {atoms.n_atoms} atoms ({error}); give the structure file of "
            "the same atoms"
        ) from error


def _shown(frames: Iterator[ase.Atoms], what: str) -> Iterator[ase.Atoms]:
    """The same with a progress bar; how many there are is not known before."""
    console = Console(stderr=True)
    yield from track(frames, what, console=console, disable=not console.is_terminal)


def _measured(frames: Iterator[ase.Atoms], ensemble: Ensemble, device: torch.device) -> tuple[list[Row], Array]:
    """Spreads and features of every frame; (f, d)."""
    members = Members(ensemble, device, skin=1.0)
    rows, features = [], []
    for number, frame in enumerate(frames):
        positions, cell, types = _tensors(frame, number, ensemble)
        spread = members.spread(positions, cell, types)
        worst = int(spread.force_spread.argmax())
        milli = spread.force_spread.numpy() * units.EV_TO_MEV
        per_atom = spread.energy_spread / len(types) * units.EV_TO_MEV
        rows.append(Row(per_atom, float(milli.mean()), float(milli[worst]), worst))
        features.append(frame_features(members.model, positions, cell, types, device))
    if not rows:
        raise ValueError("there are no frames to choose from")
    return rows, np.array(features)


def frame_features(
    model: Allegro, positions: torch.Tensor, cell: torch.Tensor, types: torch.Tensor, device: torch.device
) -> Array:
    """What the last layer reads, summed over the atoms of each type, per atom of the frame; (d,)."""
    pairs = Neighbors(model.config.r_max)(positions, cell)  # a row for each atom, in their order
    by_type = torch.zeros((model.n_types, len(last_weights(model))), dtype=torch.float64)
    for atoms in even_blocks(pairs, usual_block_edges(device.type == "cuda"), 1, 1):
        matrix = pad_rows(pairs, atoms, 2 * model.config.r_max)
        vectors, neighbour_types = matrix.edge_vectors.to(device, model.dtype), types[matrix.neighbours].to(device)
        with torch.no_grad():
            read = last_features(model, vectors, types[atoms].to(device), neighbour_types).cpu()
        by_type.index_add_(0, types[atoms], read)
    return by_type.flatten().numpy() / len(types)


def _tensors(frame: ase.Atoms, number: int, ensemble: Ensemble) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions (n, 3) [Å], cell (3, 3) [Å] and types (n,) of a frame."""
    known = ensemble.config.type_names
    for atom, symbol in enumerate(frame.symbols):
        if symbol not in known:
            raise ValueError(f"frame {number}: atom {atom} is {symbol}, but this model knows only {', '.join(known)}")
    if frame.pbc.any() and not frame.pbc.all():
        raise ValueError(
            f"frame {number} is periodic along some directions only (pbc {frame.pbc.tolist()}); make it periodic along "
            "all three, with a wide cell where there is vacuum"
        )
    cell = np.asarray(frame.cell) if frame.pbc.all() else np.zeros((3, 3))
    types = torch.tensor([known.index(symbol) for symbol in frame.symbols])
    return torch.tensor(frame.positions), torch.tensor(cell), types


def _with_spreads(frames: Iterator[ase.Atoms], chosen: Sequence[int], ensemble: Ensemble) -> str:
    """The chosen frames in their order in the trajectory, as extended XYZ."""
    members = Members(ensemble)
    wanted, text = set(chosen), io.StringIO()
    for number, frame in enumerate(frames):
        if number not in wanted:
            continue
        spread = members.spread(*_tensors(frame, number, ensemble))
        image = ase.Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=frame.pbc, info={"frame": number})
        text.write(frame_with_spread(image, spread))
    return text.getvalue()


def _table(rows: Sequence[Row], chosen: set[int]) -> str:
    """All spreads as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, row in enumerate(rows):
        figures = [f"{value:.6g}" for value in (row.energy, row.mean, row.largest)]
        writer.writerow([number, *figures, row.atom, int(number in chosen)])
    return text.getvalue()
