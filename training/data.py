"""Reading frames: extended XYZ, plain or compressed; npz (`npz.py`); what else ASE reads."""

import io
from collections.abc import Sequence
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from openmm_allegro.training.config import LabelOptions
from openmm_allegro.training.frames import Array, Frame, check_frame
from openmm_allegro.training.npz import read_npz
from openmm_allegro.units import ENERGY_UNITS
from openmm_allegro.xyz_text import OPENERS, check_file, check_whole, is_xyz, open_text

UNIT_FLAGS = ("units", "unit", "energy_units", "energy_unit", "forces_unit", "force_unit", "length_unit")
UNIT_SPELLINGS = {
    "angstrom": ("angstrom", "ang", "a", "å"),
    "eV": ("ev", "ev/a", "ev/ang", "ev/angstrom", "ev/å", "metal"),
    "kcal/mol": ("kcal/mol", "kcal/mol/a", "kcal/mol/ang", "kcal/mol/angstrom", "kcal/mol/å", "real"),
    "kJ/mol": ("kj/mol", "kj/mol/a", "kj/mol/ang", "kj/mol/angstrom", "kj/mol/å"),
    "Hartree": ("hartree", "ha", "hartree/a", "hartree/ang", "hartree/angstrom", "hartree/å", "ha/a", "ha/å"),
}
"""What the values of those flags may be, in small letters."""
OF_ATOMS = {"numbers", "positions"}
"""Arrays that every frame of ASE has."""


def read_frames(paths: Sequence[str | Path] | str | Path, options: LabelOptions | None = None) -> list[Frame]:
    """Every frame of a file or several, in eV and Å, checked. A frame's number in messages counts from 0."""
    options = options or LabelOptions()
    frames = read_unchecked(paths, options)
    for frame in frames:
        check_frame(frame, options)
    return frames


def read_unchecked(paths: Sequence[str | Path] | str | Path, options: LabelOptions) -> list[Frame]:
    """Every frame of a file or several, in eV and Å, broken ones included."""
    frames: list[Frame] = []
    for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        refuse_folder(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file `{path}`; paths are relative to the TOML file or `--data-root`")
        frames += read_npz(path, options) if path.suffix == ".npz" else _read_with_ase(path, options)
    return frames


def refuse_folder(path: Path) -> None:
    """Frames are in files, but for stores, which are trained on."""
    if path.is_dir():
        raise ValueError(
            f"`{path}` is a folder; give the files of its frames (a store of `prepare` can only be trained on)"
        )


def _read_with_ase(path: Path, options: LabelOptions) -> list[Frame]:
    if path.stat().st_size == 0:
        raise ValueError(f"`{path}` is empty")
    try:
        images = _images(path)
    except Exception as error:  # every format of ASE fails in its own way
        raise ValueError(f"cannot read `{path}`: {str(error) or type(error).__name__}") from error
    if not images:
        raise ValueError(f"`{path}` has no frames")
    check_unit_flags(images, path, options)
    _check_named_labels(images, path, options)
    return [frame_from_ase(atoms, f"frame {i} of `{path.name}`", options) for i, atoms in enumerate(images)]


def _images(path: Path) -> list[ase.Atoms]:
    if path.suffix in OPENERS and is_xyz(path):
        # all at once: ASE jumps about in a file, and each jump decompresses from the beginning
        with open_text(path) as file:
            text = file.read()
        images = images_in(io.StringIO(text), "extxyz")
        check_whole(io.StringIO(text))
        return images
    images = images_in(path)
    check_file(path)
    return images


def images_in(file: Path | io.StringIO, ending: str | None = None, before: int = 0) -> list[ase.Atoms]:
    """What ASE reads. ending: the format; None tells it from the name. before: frames of the file that were read."""
    images: list[ase.Atoms] = []
    try:
        images.extend(ase.io.iread(file, index=":", format=ending))
    except KeyError as error:  # all that ASE says of an unknown element
        raise ValueError(
            f"{error} is no chemical symbol, in frame {before + len(images)}; name the element, or remove the frame"
        ) from error
    return images


def check_unit_flags(
    images: Sequence[ase.Atoms], path: Path, options: LabelOptions, numbers: Sequence[int] | None = None
) -> None:
    """Files may say their units in the comment line: it must be one unit, and the one stated to us.

    numbers: of the frames in the file, where these are only some of it.
    """
    for flag in UNIT_FLAGS:
        values = [str(atoms.info[flag]) if flag in atoms.info else None for atoms in images]
        odd = next((i for i, value in enumerate(values) if value != values[0]), None)
        if odd is not None:
            raise ValueError(
                f"`{path.name}` mixes units: `{flag}` is {values[0]} in frame 0 but {values[odd]} in frame "
                f"{numbers[odd] if numbers else odd}; convert the file to one unit"
            )
        unit = "angstrom" if flag.startswith("length") else options.units or "eV"
        if values[0] is not None and values[0].lower() not in UNIT_SPELLINGS[unit]:
            raise ValueError(
                f"`{path.name}` says `{flag}={values[0]}`, but its frames are to be read in {unit}; "
                "set `data.units`, or convert the file"
            )


def _check_named_labels(images: Sequence[ase.Atoms], path: Path, options: LabelOptions) -> None:
    """A label that the user named must be in some frame; which frames need it is for the loss to say."""
    if not all(len(atoms) == 1 for atoms in images):
        refuse_labels(labels_not_found(images, options), path, options)


def labels_not_found(images: Sequence[ase.Atoms], options: LabelOptions) -> list[str]:
    """Options that name a label which none of the frames has."""
    named = [
        (option, getattr(options, option))
        for option in ("energy_key", "forces_key", "stress_key", "virial_key")
        if option in options.model_fields_set
    ]
    return [option for option, key in named if key and all(_found(atoms, key) is None for atoms in images)]


def refuse_labels(not_found: Sequence[str], path: Path, options: LabelOptions) -> None:
    """Refuse a file none of whose frames has a label that the user named."""
    for option in not_found:
        key = getattr(options, option)
        raise ValueError(f"no frame of `{path.name}` has `{key}`, which `{option}` names; check the name")


def frame_from_ase(atoms: ase.Atoms, origin: str, options: LabelOptions) -> Frame:
    if atoms.pbc.any() and not atoms.pbc.all():
        raise ValueError(
            f"{origin} is periodic along some directions only (pbc {atoms.pbc.tolist()}); make it periodic "
            "along all three, with a wide cell where there is vacuum"
        )
    periodic = bool(atoms.pbc.all())
    to_ev = ENERGY_UNITS[options.units or "eV"]
    energy = _label(atoms, options.energy_key, origin)
    if energy is not None and energy.size != 1:
        raise ValueError(f"{origin}: `{options.energy_key}` has {energy.size} values; expected one, the total energy")
    forces = _label(atoms, options.forces_key, origin)
    read = _label_keys(options) | OF_ATOMS
    return Frame(
        numbers=np.asarray(atoms.numbers, dtype=np.int64),
        positions=np.asarray(atoms.positions, dtype=np.float64),
        cell=np.asarray(atoms.cell, dtype=np.float64) if periodic else np.zeros((3, 3)),
        periodic=periodic,
        energy=None if energy is None else float(energy.item()) * to_ev,
        forces=None if forces is None else forces * to_ev,
        stress=_stress(atoms, origin, options) if periodic else None,
        origin=origin,
        info=_words_and_numbers(atoms, options),
        unread=tuple(key for key in [*atoms.info, *atoms.arrays] if key not in read),
    )


def _words_and_numbers(atoms: ase.Atoms, options: LabelOptions) -> dict[str, str | int | float]:
    labels = _label_keys(options)
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in atoms.info.items()}
    return {key: value for key, value in plain.items() if key not in labels and isinstance(value, str | int | float)}


def _label_keys(options: LabelOptions) -> set[str | None]:
    return {options.energy_key, options.forces_key, options.stress_key, options.virial_key}


def _label(atoms: ase.Atoms, key: str, origin: str) -> Array | None:
    value = _found(atoms, key)
    try:
        return None if value is None else np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{origin}: `{key}` is {value!r}; expected numbers only") from error


def _found(atoms: ase.Atoms, key: str) -> object:
    """Where ASE has put a label: what it knows goes to a calculator, the rest to info or arrays."""
    results = {} if atoms.calc is None else atoms.calc.results
    for place in (results, atoms.info, atoms.arrays):
        if key in place:
            return place[key]
    return None


def _stress(atoms: ase.Atoms, origin: str, options: LabelOptions) -> Array | None:
    key = options.virial_key or options.stress_key
    value = _label(atoms, key, origin)
    if value is None:
        return None
    if value.size not in (6, 9):
        raise ValueError(f"{origin}: `{key}` has {value.size} values; expected 9 (3 x 3) or 6 (Voigt order)")
    full = value.reshape(3, 3) if value.size == 9 else voigt_6_to_full_3x3_stress(value)
    to_ev = ENERGY_UNITS[options.units or "eV"]
    if not options.virial_key:
        return full * to_ev
    if not (volume := abs(np.linalg.det(atoms.cell))):
        raise ValueError(f"{origin}: the cell has no volume, by which `{key}` is divided; give three lattice vectors")
    return full * (-to_ev / volume)
