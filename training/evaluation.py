"""Errors of a model over data files: overall, by groups of frames, their percentiles, and frame by frame.

Symbols used in this file
    f  frames        n  atoms of a frame        t  elements
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from openmm_allegro.checkpoint import load_model
from openmm_allegro.device import chosen_device
from openmm_allegro.model import Allegro
from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.counting import counted
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Array, Frame
from openmm_allegro.training.metrics import ErrorTable, FramePrediction, error_table, predict_frames
from openmm_allegro.training.spread import composition
from openmm_allegro.training.trained_on import warn_of_trained
from openmm_allegro.units import EV_TO_MEV

PERCENTILES = (50, 95, 99)
SHIFTS = ("constant", "elements")
GROUP_FIGURES = (
    "n_frames",
    "n_atoms",
    "energy_mae_mev",
    "energy_per_atom_mae_mev",
    "energy_per_atom_rmse_mev",
    "forces_mae_mev_per_angstrom",
    "forces_rmse_mev_per_angstrom",
    "stress_rmse_mev_per_angstrom3",
)
"""Of an error table, what is told of each group."""


@dataclass(frozen=True)
class Evaluation:
    """What a comparison of predictions with labels gives."""

    overall: ErrorTable
    percentiles: dict[str, dict[str, float | str]]
    """For each quantity percentiles of the size of its errors, the largest, and the frame that has it."""
    groups: dict[str, ErrorTable]
    """Empty when the frames were not grouped."""
    shift_ev: dict[str, float]
    """Added to the predicted energies before the comparison: to each frame (`constant`), or for each atom [eV]."""
    files: tuple[Path, ...] = ()
    """What was written."""

    def as_dict(self) -> dict[str, object]:
        """For JSON and for a reader."""
        tables = {name: table.as_dict() for name, table in self.groups.items()}
        return {
            **self.overall.as_dict(),
            "shift_ev": self.shift_ev,
            "percentiles": self.percentiles,
            "groups": {name: {figure: table[figure] for figure in GROUP_FIGURES} for name, table in tables.items()},
            "files": [str(path) for path in self.files] or None,
        }


def evaluate_files(
    model: Allegro | Path | str,
    data: Sequence[Path | str],
    *,
    options: LabelOptions | None = None,
    batch_size: int = 10,
    batch_atoms: int = 4000,
    device: str = "auto",
    group_by: str | None = None,
    shift: str | None = None,
    output: Path | None = None,
) -> Evaluation:
    """Errors of a model over the frames of some files; labels that a frame lacks are left out.

    device: "auto", "cpu" or "cuda". group_by: `composition`, `size`, `file`, or a key of the frames' info.
    shift: compare energies after removing a `constant` from each frame, or a constant for each atom of the
    `elements`, both by least squares; for references of another level of theory or with another zero.
    output: folder for errors.csv and pictures.
    """
    check_folder(output)
    place = chosen_device(device)
    frames, groups = read_groups(data, options, group_by)
    predictor = (model if isinstance(model, Allegro) else load_model(model)).to(place)
    warn_of_trained(frames, data, predictor.provenance)
    predictions = predict_frames(
        predictor, frames, batch_size, batch_atoms, lambda batches: counted(batches, "evaluating")
    )
    return compare(frames, predictions, groups, shift, output)


def check_folder(folder: Path | None) -> None:
    """Refuse to write the files of an evaluation where they would take the place of others."""
    if folder is None or not folder.exists():
        return
    from openmm_allegro.training.keeper import HISTORY_FILE

    if not folder.is_dir():
        raise ValueError(f"`{folder}` is a file, where the folder of the results goes; name another folder")
    if (folder / HISTORY_FILE).exists():
        raise ValueError(
            f"`{folder}` holds a training, whose `parity.png` would be lost; name another folder for the results"
        )


def read_groups(
    data: Sequence[Path | str], options: LabelOptions | None, group_by: str | None
) -> tuple[list[Frame], list[str] | None]:
    """The frames of some files, and the group of each; None without grouping."""
    paths = [Path(path) for path in data]
    of_files = [read_frames(path, options) for path in paths]
    frames = [frame for of_file in of_files for frame in of_file]
    _require_a_label(frames)
    known = Counter(path.name for path in paths)
    names = [path.name if known[path.name] == 1 else str(path) for path in paths]
    of_frames = [name for name, of_file in zip(names, of_files, strict=True) for _ in of_file]
    return frames, group_names(frames, group_by, of_frames)


def _require_a_label(frames: Sequence[Frame]) -> None:
    if any(label is not None for frame in frames for label in (frame.energy, frame.forces, frame.stress)):
        return
    others = {label: frames[0].looks_like(label) for label in ("energy", "forces", "stress")}
    perhaps = " and ".join(f'`data.{label}_key` "{name}"' for label, name in others.items() if name is not None)
    raise ValueError(
        "no frame has an energy, forces or a stress to compare with; "
        + (f"name them, perhaps {perhaps}" if perhaps else "give frames that are labelled")
    )


def compare(
    frames: Sequence[Frame],
    predictions: Sequence[FramePrediction],
    groups: Sequence[str] | None = None,
    shift: str | None = None,
    output: Path | None = None,
) -> Evaluation:
    """The same for predictions that are there already, whatever made them. groups: the name of each frame's group."""
    offsets = _offsets(frames, predictions, shift)
    shifted = [
        replace(each, energy=each.energy + offset_of(frame, offsets))
        for frame, each in zip(frames, predictions, strict=True)
    ]
    members: dict[str, list[int]] = {}
    for i, name in enumerate(groups or []):
        members.setdefault(name, []).append(i)
    tables = {
        name: error_table([frames[i] for i in own], [shifted[i] for i in own])
        for name, own in sorted(members.items(), key=lambda pair: _numbers_as_numbers(pair[0]))
    }
    evaluation = Evaluation(error_table(frames, shifted), _percentiles(frames, shifted), tables, offsets)
    if output is None:
        return evaluation
    from openmm_allegro.training.error_files import write_error_files

    return replace(evaluation, files=write_error_files(evaluation, frames, shifted, groups, output))


def group_names(frames: Sequence[Frame], group_by: str | None, files: Sequence[str]) -> list[str] | None:
    """The group of each frame; None without grouping. files: the name of each frame's file."""
    if group_by is None:
        return None
    ways: dict[str, Callable[[int], str]] = {
        "composition": lambda i: frames[i].formula,
        "size": lambda i: f"{len(frames[i].numbers)} atoms",
        "file": lambda i: files[i],
    }
    if group_by in ways:
        return [ways[group_by](i) for i in range(len(frames))]
    keys = sorted({key for frame in frames for key in frame.info})
    if group_by not in keys:
        raise ValueError(
            f"no frame has `{group_by}` to group by; expected composition, size, file"
            + (f", or a key of the frames: {', '.join(keys)}" if keys else "; the frames have no keys of their own")
        )
    return [str(frame.info.get(group_by, f"without {group_by}")) for frame in frames]


def _numbers_as_numbers(name: str) -> list[tuple[int, str]]:
    """For sorting: 3 atoms before 12 atoms."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _offsets(frames: Sequence[Frame], predictions: Sequence[FramePrediction], shift: str | None) -> dict[str, float]:
    """What to add to the predicted energies [eV], by least squares over the frames with an energy."""
    if shift is None:
        return {}
    if shift not in SHIFTS:
        raise ValueError(f"`shift` is '{shift}'; expected {' or '.join(SHIFTS)}")
    labelled = [(f, f.energy - p.energy) for f, p in zip(frames, predictions, strict=True) if f.energy is not None]
    if not labelled:
        raise ValueError("no frame has an energy, so there is none to shift; leave `--shift` out")
    differences = np.array([difference for _, difference in labelled])
    if shift == "constant":
        return {"constant": float(differences.mean())}
    elements = sorted({int(z) for frame, _ in labelled for z in np.unique(frame.numbers)})
    counts = composition([frame for frame, _ in labelled], elements)
    fitted = np.linalg.lstsq(counts, differences, rcond=1e-8)[0]  # (t,)
    return {chemical_symbols[z]: float(value) for z, value in zip(elements, fitted, strict=True)}


def offset_of(frame: Frame, offsets: dict[str, float]) -> float:
    """What is added to the predicted energy of a frame [eV]. offsets: `Evaluation.shift_ev`."""
    if "constant" in offsets:
        return offsets["constant"]
    return sum(offsets.get(symbol, 0.0) for symbol in frame.symbols) if offsets else 0.0


def _percentiles(frames: Sequence[Frame], predictions: Sequence[FramePrediction]) -> dict[str, dict[str, float | str]]:
    """Of the size of the errors: energies per atom, the vector of an atom's force, components of the stress."""
    errors: dict[str, list[tuple[Array, int]]] = {}
    for i, (frame, predicted) in enumerate(zip(frames, predictions, strict=True)):
        if frame.energy is not None:
            size = np.array([abs(predicted.energy - frame.energy) / len(frame.numbers)])
            errors.setdefault("energy_mev_per_atom", []).append((size, i))
        if frame.forces is not None:
            size = np.linalg.norm(predicted.forces - frame.forces, axis=1)
            errors.setdefault("force_mev_per_angstrom", []).append((size, i))
        if frame.stress is not None and predicted.stress is not None:
            size = np.abs(predicted.stress - frame.stress).ravel()
            errors.setdefault("stress_mev_per_angstrom3", []).append((size, i))
    table: dict[str, dict[str, float | str]] = {}
    for name, found in errors.items():
        every = np.concatenate([sizes for sizes, _ in found]) * EV_TO_MEV
        worst = max(found, key=lambda pair: pair[0].max())[1]
        at = {f"p{p}": float(value) for p, value in zip(PERCENTILES, np.percentile(every, PERCENTILES), strict=True)}
        table[name] = {**at, "max": float(every.max()), "worst_frame": frames[worst].origin}
    return table
