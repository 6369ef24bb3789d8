"""Reading npz files of clusters: one molecule as in MD17, several padded or one after the other as in QM9.

Symbols used in this file
    f  frames        n  atoms of a frame        a  atoms of all frames
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.frames import Array, Frame
from openmm_allegro.units import ENERGY_UNITS

NAMES = {
    "atomic numbers": ("nuclear_charges", "z", "Z", "numbers"),
    "positions": ("coords", "R", "positions", "R_angstrom_1e5"),
    "energies": ("energies", "E", "energy"),
    "forces": ("forces", "F"),
    "atom counts": ("n_atoms",),
}
"""Names of the arrays in rMD17, MD17, QM9 and our own npz files."""
OPTIONAL = ("forces", "atom counts")
CELL_NAMES = ("lattice", "cell", "cells", "pbc")
IN_1E5 = "R_angstrom_1e5"
"""Positions of this name are whole numbers of 10⁻⁵ Å."""


def read_npz(path: Path, options: LabelOptions) -> list[Frame]:
    """Every frame of a file, unchecked, in eV and Å.

    Atomic numbers (n,) and positions (f, n, 3) are frames of one molecule; (f, n) and (f, n, 3) are frames padded by
    atoms of number 0; (a,) and (a, 3) with counts (f,) are frames one after the other, without them one frame.
    Forces are like positions.
    """
    if options.units is None:
        raise ValueError(
            f"`{path.name}` is npz, which does not say its units; set `data.units` (rMD17 and MD17 are in kcal/mol)"
        )
    arrays, counts = _one_after_the_other(_arrays(path, options), path)
    ends = counts.cumsum()[:-1]
    numbers = np.split(arrays["atomic numbers"].astype(np.int64), ends)
    positions = np.split(arrays["positions"], ends)
    energies = arrays["energies"] * ENERGY_UNITS[options.units]
    forces: list[Array] | list[None] = [None] * len(counts)
    if "forces" in arrays:
        forces = np.split(arrays["forces"] * ENERGY_UNITS[options.units], ends)
    return [
        Frame(
            numbers=numbers[i],
            positions=positions[i],
            cell=np.zeros((3, 3)),
            periodic=False,
            energy=float(energies[i]),
            forces=forces[i],
            stress=None,
            origin=f"frame {i} of `{path.name}`",
        )
        for i in range(len(counts))
    ]


def _arrays(path: Path, options: LabelOptions) -> dict[str, Array]:
    """What the file has, by meaning; energies (f,)."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            cells = [name for name in file if name.lower() in CELL_NAMES]
            if cells:
                raise ValueError(
                    f"`{path.name}` has `{cells[0]}`, but npz files are read as clusters; write periodic frames as "
                    "extended XYZ"
                )
            found = {meaning: _array(file, path, meaning, options) for meaning in NAMES}
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error
    arrays = {meaning: array for meaning, array in found.items() if array is not None}
    arrays["energies"] = arrays["energies"].reshape(-1)
    return arrays


def _array(file: np.lib.npyio.NpzFile, path: Path, meaning: str, options: LabelOptions) -> Array | None:
    key = {"energies": "energy_key", "forces": "forces_key"}.get(meaning)
    names, named = NAMES[meaning], key in options.model_fields_set
    if key is not None and named:
        names = (getattr(options, key),)  # another label would not be what was asked for
    for name in names:
        if name in file:
            return _numbers(file, path, name) / (1e5 if name == IN_1E5 else 1.0)
    if meaning in OPTIONAL and not named:
        return None
    raise ValueError(
        f"`{path.name}` has no {meaning}: expected an array named {' or '.join(names)}, found {', '.join(file)}"
    )


def _numbers(file: np.lib.npyio.NpzFile, path: Path, name: str) -> Array:
    try:
        return np.asarray(file[name], dtype=np.float64)
    except (TypeError, ValueError) as error:  # letters; pickled objects, which are never opened
        raise ValueError(
            f"`{path.name}`: the array `{name}` is not made of numbers ({error}); save it as one array of numbers"
        ) from error


def _one_after_the_other(arrays: dict[str, Array], path: Path) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """The atoms of all frames, (a,) and (a, 3), and how many belong to each frame, (f,)."""
    numbers, positions = arrays["atomic numbers"], arrays["positions"]
    if positions.ndim == 2 and "atom counts" in arrays:
        counts = arrays["atom counts"].astype(np.int64)
        _check_shapes(arrays, path, (int(counts.sum()),), len(counts))
        return arrays, counts
    if positions.ndim == 2 and numbers.ndim == 1 and arrays["energies"].size == 1:
        arrays = arrays | {name: arrays[name][None] for name in ("positions", "forces") if name in arrays}
        positions = arrays["positions"]
    padded = numbers.ndim == 2
    atoms = numbers.shape if padded else (len(positions), numbers.size)
    _check_shapes(arrays | {"atomic numbers": np.broadcast_to(numbers, atoms)}, path, atoms, atoms[0])
    real = numbers > 0 if padded else np.ones(atoms, dtype=bool)
    joined: dict[str, Array] = {name: arrays[name][real] for name in ("positions", "forces") if name in arrays}
    joined["atomic numbers"] = np.broadcast_to(numbers, atoms)[real]
    return joined | {"energies": arrays["energies"]}, real.sum(1)


def _check_shapes(arrays: dict[str, Array], path: Path, atoms: tuple[int, ...], n_frames: int) -> None:
    """atoms: shape of the atomic numbers, (a,) or (f, n)."""
    expected = {"atomic numbers": atoms, "positions": (*atoms, 3), "energies": (n_frames,), "forces": (*atoms, 3)}
    for meaning, shape in expected.items():
        if meaning in arrays and arrays[meaning].shape != shape:
            raise ValueError(
                f"`{path.name}`: the {meaning} have shape {arrays[meaning].shape}; expected {shape}, "
                f"for {n_frames} frames of {atoms[-1]} atoms{' in all' if len(atoms) == 1 else ''}"
            )
