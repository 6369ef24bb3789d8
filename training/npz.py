"""Frames from npz files: arrays with the names of MD17, of one molecule or of many.

Symbols used in this file
    f  frames        n  atoms of a frame        a  atoms of all frames
"""

import zipfile
from pathlib import Path

import numpy as np

from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.frames import Array, Frame

NPZ_NAMES = {
    "atomic numbers": ("nuclear_charges", "z", "numbers"),
    "positions": ("coords", "R", "positions"),
    "energies": ("energies", "E", "energy"),
    "forces": ("forces", "F"),
}
"""Names of the arrays in rMD17, MD17 and our own npz files."""
NPZ_CELL_NAMES = ("lattice", "cell", "cells", "pbc")
NPZ_SIZES = "n_atoms"
"""Atoms of each frame, (f,): then the other arrays hold the atoms of all frames one after the other."""


def read_npz(path: Path, options: LabelOptions, to_ev: float) -> list[Frame]:
    """The frames of a file, unchecked; forces may be absent. to_ev: the file's unit of energy [eV].

    Atomic numbers (n,), positions (f, n, 3), energies (f,), forces (f, n, 3) for frames of the same atoms; with an
    array `n_atoms` (f,) atomic numbers (a,), positions (a, 3), energies (f,), forces (a, 3).
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            cells = [name for name in file if name.lower() in NPZ_CELL_NAMES]
            if cells:
                raise ValueError(
                    f"`{path.name}` has `{cells[0]}`, but npz files are read as clusters; write periodic frames as "
                    "extended XYZ"
                )
            sizes = np.asarray(file[NPZ_SIZES], dtype=np.int64) if NPZ_SIZES in file else None
            arrays = {meaning: _array(file, path, meaning, options) for meaning in NPZ_NAMES}
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error
    found = {meaning: array for meaning, array in arrays.items() if array is not None}
    found["energies"] = found["energies"].reshape(-1)
    if sizes is None:
        n_frames, n_atoms = len(found["positions"]), found["atomic numbers"].size
        _check_shapes(
            found, path, (n_atoms,), (n_frames, n_atoms, 3), n_frames, f"{n_frames} frames of {n_atoms} atoms"
        )
        numbers = [found["atomic numbers"].astype(np.int64)] * n_frames
        positions, forces = list(found["positions"]), list(found["forces"]) if "forces" in found else None
    else:
        total, n_frames = int(sizes.sum()), len(sizes)
        _check_shapes(found, path, (total,), (total, 3), n_frames, f"{n_frames} frames with {total} atoms in all")
        cuts = np.cumsum(sizes)[:-1]
        numbers = np.split(found["atomic numbers"].astype(np.int64), cuts)
        positions = np.split(found["positions"], cuts)
        forces = np.split(found["forces"], cuts) if "forces" in found else None
    return [
        Frame(
            numbers=numbers[i],
            positions=positions[i],
            cell=np.zeros((3, 3)),
            periodic=False,
            energy=float(found["energies"][i]) * to_ev,
            forces=None if forces is None else forces[i] * to_ev,
            stress=None,
            origin=f"frame {i} of `{path.name}`",
        )
        for i in range(n_frames)
    ]


def _check_shapes(
    arrays: dict[str, Array], path: Path, of_numbers: tuple[int], of_vectors: tuple[int, ...], n_frames: int, what: str
) -> None:
    expected: dict[str, tuple[int, ...]] = {
        "atomic numbers": of_numbers,
        "positions": of_vectors,
        "energies": (n_frames,),
        "forces": of_vectors,
    }
    for meaning, array in arrays.items():
        if array.shape != expected[meaning]:
            raise ValueError(
                f"`{path.name}`: the {meaning} have shape {array.shape}; expected {expected[meaning]}, for {what}"
            )


def _array(file: np.lib.npyio.NpzFile, path: Path, meaning: str, options: LabelOptions) -> Array | None:
    named = {"energies": "energy_key", "forces": "forces_key"}.get(meaning)
    names = NPZ_NAMES[meaning]
    chosen = named in options.model_fields_set
    if chosen:
        names = (getattr(options, str(named)), *names)
    for name in names:
        if name in file:
            return np.asarray(file[name], dtype=np.float64)
    if meaning == "forces" and not chosen:
        return None
    raise ValueError(
        f"`{path.name}` has no {meaning}: expected an array named {' or '.join(names)}, found {', '.join(file)}"
    )
