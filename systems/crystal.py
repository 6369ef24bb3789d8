"""Crystals by name or from a CIF file: supercells, partial occupancies, vacancies and doping.

Symbols used in this file
    n  positions on the lattice, occupied or not
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import ase
import numpy as np
from ase.data import atomic_numbers
from ase.spacegroup import crystal as ase_crystal
from numpy.typing import NDArray

from openmm_allegro.systems.cif import read_cif
from openmm_allegro.systems.crystal_data import CRYSTALS, ONLY_FROM_A_FILE, OXIDATION_STATES, CrystalData
from openmm_allegro.systems.disorder import drawn
from openmm_allegro.systems.files import known_names

Counts = Mapping[str, int]
Replacements = Mapping[tuple[str, str], int]


class Lattice(NamedTuple):
    """All positions of a cell and what may stand on them."""

    atoms: ase.Atoms
    """One atom for each position, also where it may be empty."""
    kinds: NDArray[np.int64]
    """Orbit of each position, (n,)."""
    shares: dict[int, dict[str, float]]
    """Occupancy by element for each orbit."""


def crystal(
    name: str | Path,
    supercell: tuple[int, int, int] = (1, 1, 1),
    *,
    vacancies: Counts | None = None,
    replace: Replacements | None = None,
    charged: bool = False,
    seed: int = 0,
) -> ase.Atoms:
    """A crystal of `CRYSTALS`, or of a CIF file, as whole conventional cells.

    Positions that are occupied in part are drawn by `seed`, so that the composition is the nearest whole one and drawn
    atoms keep their distance.

    Parameters
    ----------
    vacancies
        How many atoms of an element are taken away, anywhere.
    replace
        How many atoms of the first element become the second, anywhere.
    charged
        Whether vacancies and replacements may leave a charge, by the usual oxidation states.
    """
    if min(supercell) < 1:
        raise ValueError(f"`supercell` is {list(supercell)}; each number must be at least 1")
    lattice = _lattice(name)
    count = int(np.prod(supercell))
    lattice = Lattice(lattice.atoms.repeat(supercell), np.tile(lattice.kinds, count), lattice.shares)
    random = np.random.default_rng(seed)
    atoms = drawn(lattice.atoms, lattice.kinds, lattice.shares, random)
    before = charge_of(atoms)
    symbols = np.array(atoms.get_chemical_symbols(), dtype="<U2")
    for (old, new), number in (replace or {}).items():
        if new not in atomic_numbers or new == "X":
            raise ValueError(f"{old} is to become {new}, which is not a chemical symbol")
        symbols[_chosen(symbols, old, number, random)] = new
    kept = np.ones(len(symbols), dtype=bool)
    for element, number in (vacancies or {}).items():
        kept[_chosen(symbols, element, number, random)] = False
    atoms.symbols = symbols
    if not kept.any():
        raise ValueError(f"nothing is left of {_formula(symbols)} without {vacancies}; take away fewer atoms")
    atoms = atoms[kept]
    if before == 0 and not charged:
        _check_neutral(atoms)
    return _plain(atoms)


def charge_of(atoms: ase.Atoms) -> int | None:
    """Sum of the usual oxidation states; None where one of the elements has none in the table."""
    elements = Counter(atoms.get_chemical_symbols())
    if not set(elements) <= set(OXIDATION_STATES):
        return None
    return sum(OXIDATION_STATES[element] * number for element, number in elements.items())


def _lattice(name: str | Path) -> Lattice:
    path = Path(name)
    if str(name).lower() in CRYSTALS:
        return _from_data(CRYSTALS[str(name).lower()])
    if path.suffix.lower() == ".cif" and path.is_file():
        atoms, kinds, shares = read_cif(path)
        return Lattice(_plain(atoms), kinds, shares)
    if path.is_file():
        raise ValueError(f"`{name}` is not called .cif, and a crystal is read from a CIF file; convert it")
    if path.suffix:
        raise FileNotFoundError(f"there is no CIF file `{name}`")
    if str(name).lower() in ONLY_FROM_A_FILE:
        source = ONLY_FROM_A_FILE[str(name).lower()]
        raise ValueError(f"the atoms of `{name}` are not written down here; give a CIF file of them ({source})")
    raise ValueError(f"there is no crystal {known_names(str(name), CRYSTALS)}; or give a CIF file")


def _from_data(data: CrystalData) -> Lattice:
    first = [next(iter(site.shares)) for site in data.sites]
    places = [site.place for site in data.sites]
    atoms = ase_crystal(first, places, spacegroup=data.spacegroup, setting=data.setting, cellpar=data.cell)
    kinds = atoms.arrays["spacegroup_kinds"].astype(np.int64)
    return Lattice(_plain(atoms), kinds, {kind: site.shares for kind, site in enumerate(data.sites)})


def _plain(atoms: ase.Atoms) -> ase.Atoms:
    return ase.Atoms(atoms.get_chemical_symbols(), atoms.positions, cell=atoms.cell, pbc=True)


def _chosen(symbols: NDArray[np.str_], element: str, number: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Which atoms of an element."""
    of_it = np.flatnonzero(symbols == element)
    if not 1 <= number <= len(of_it):
        raise ValueError(
            f"{number} atoms of {element} are to go, but the crystal has {len(of_it)}: {_formula(symbols)}; "
            "make the supercell larger, or name an element that it has"
        )
    return random.choice(of_it, number, replace=False)


def _formula(symbols: NDArray[np.str_]) -> str:
    return ase.Atoms(list(symbols)).get_chemical_formula()


def _check_neutral(atoms: ase.Atoms) -> None:
    charge = charge_of(atoms)
    if charge is None:
        strange = next(symbol for symbol in atoms.get_chemical_symbols() if symbol not in OXIDATION_STATES)
        raise ValueError(f"the oxidation state of {strange} is not known here; if the charge is meant, say `charged`")
    if charge != 0:
        mobile = next((each for each in ("Li", "Na", "Ag") if each in atoms.symbols), None)
        hint = f"take away {charge} more {mobile}" if charge > 0 and mobile else "change the counts"
        raise ValueError(
            f"{atoms.get_chemical_formula()} has a charge of {charge:+d} by the usual oxidation states; {hint}, or say "
            "`charged`"
        )
