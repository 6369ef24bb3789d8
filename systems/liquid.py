"""Liquids and electrolytes: solvents in given proportions, a salt by concentration, at a density."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from openmm_allegro import units
from openmm_allegro.systems.disorder import whole_numbers
from openmm_allegro.systems.molecules import IONS, SOLVENTS, Molecule, ion_molecule, ions_of, solvent_molecule
from openmm_allegro.systems.packing import packed
from openmm_allegro.systems.water import System

CM3_PER_MOL_TO_ANGSTROM3 = 1e24 / 6.02214076e23
DENSEST = 1.3
"""A density this many times that of ideal mixing is taken for a mistake."""
NO_DENSITY = "the density of this liquid is not known here; give `density_g_per_cm3`"


class Recipe(NamedTuple):
    """What goes into the box."""

    molecules: tuple[tuple[Molecule, int], ...]
    volume: float
    """By ideal mixing [Å³]: pure solvents and partial molar volumes of the ions; NaN where a density is not known."""

    @property
    def mass(self) -> float:
        """[g/mol]."""
        return sum(molecule.mass * number for molecule, number in self.molecules)

    @property
    def charge(self) -> int:
        """[e]."""
        return sum(molecule.charge * number for molecule, number in self.molecules)


def liquid(
    solvents: Sequence[str],
    n_molecules: int,
    *,
    parts: Sequence[float] | None = None,
    by: Literal["mole", "mass"] = "mole",
    salt: str | None = None,
    molal: float | None = None,
    molar: float | None = None,
    formula_units: int | None = None,
    density_g_per_cm3: float | None = None,
    base_nm: tuple[float, float] | None = None,
    seed: int = 0,
) -> System:
    """A box of solvent molecules and ions, placed at random without overlap; minimise it before dynamics.

    Parameters
    ----------
    solvents
        Names of `SOLVENTS`, or SMILES, whose residues are called S01, S02, … by their place here.
    n_molecules
        Molecules of all solvents together.
    parts
        Proportions of the solvents, by mole or mass; equal ones when not given.
    salt
        Formula, such as LiPF6; so much of it by one of `molal` [mol/kg of solvent], `molar` [mol/L] and
        `formula_units`, to the nearest whole number.
    density_g_per_cm3
        Of the whole; that of ideal mixing when not given, which is good to a few per cent.
    base_nm
        Two lengths of the box, those of a slab that the liquid will stand on; no molecule then crosses the faces along
        z. A cube when not given.
    """
    recipe = electrolyte(
        solvents,
        n_molecules,
        parts=parts,
        by=by,
        salt=salt,
        molal=molal,
        molar=molar,
        formula_units=formula_units,
        density_g_per_cm3=density_g_per_cm3,
    )
    volume = _volume(recipe, density_g_per_cm3)
    if base_nm is None:
        return packed(recipe.molecules, np.full(3, volume ** (1 / 3)), seed)
    if min(base_nm) <= 0:
        raise ValueError(f"`base_nm` is {list(base_nm)}; both lengths must be above zero")
    base = np.array(base_nm) * units.NM_TO_ANGSTROM
    return packed(recipe.molecules, np.array([*base, volume / base.prod()]), seed, walls=True)


def electrolyte(
    solvents: Sequence[str],
    n_molecules: int,
    *,
    parts: Sequence[float] | None = None,
    by: Literal["mole", "mass"] = "mole",
    salt: str | None = None,
    molal: float | None = None,
    molar: float | None = None,
    formula_units: int | None = None,
    density_g_per_cm3: float | None = None,
) -> Recipe:
    """How many of each molecule and ion; for the arguments see `liquid`."""
    if density_g_per_cm3 is not None and density_g_per_cm3 <= 0:
        raise ValueError(f"`density_g_per_cm3` is {density_g_per_cm3}; it must be positive")
    chosen = [solvent_molecule(name, number) for number, name in enumerate(solvents, 1)]
    shares = _mole_shares(chosen, solvents, parts, by)
    counts = whole_numbers(shares, n_molecules)
    if n_molecules < 1 or min(counts) < 1:
        raise ValueError(
            f"{n_molecules} molecules in these proportions are {', '.join(map(str, counts))} of "
            f"{', '.join(solvents)}; ask for more molecules"
        )
    mass = sum(molecule.mass * count for molecule, count in zip(chosen, counts, strict=True))
    cm3 = sum(
        molecule.mass * count / (SOLVENTS[name].density if name in SOLVENTS else float("nan"))
        for name, molecule, count in zip(solvents, chosen, counts, strict=True)
    )
    molecules = list(zip(chosen, counts, strict=True))
    given = [each for each in (molal, molar, formula_units) if each is not None]
    if salt is None:
        if given:
            raise ValueError("there is a concentration, but no `salt` that it is of")
        return Recipe(tuple(molecules), cm3 * CM3_PER_MOL_TO_ANGSTROM3)
    if len(given) != 1 or given[0] <= 0:
        raise ValueError(f"say how much {salt}: one of `molal`, `molar` and `formula_units`, above zero")
    ions = ions_of(salt)
    cm3_per_mol = sum(IONS[ion].volume * number for ion, number in ions.items())
    if formula_units is None:
        volumes = cm3, cm3_per_mol
        if density_g_per_cm3 is not None:  # all of the mass then takes the volume that this gives it
            salt_mass = sum(ion_molecule(ion).mass * number for ion, number in ions.items())
            volumes = mass / density_g_per_cm3, salt_mass / density_g_per_cm3
        exact = molal * mass / 1000 if molal is not None else _units_of_molar(molar or 0.0, *volumes, salt)
        formula_units = round(exact)
        if formula_units < 1:
            if density_g_per_cm3 is not None:  # too large a density, as of kg/m³, leaves no room for the salt
                _check_density(density_g_per_cm3, mass, cm3)
            raise ValueError(
                f"this concentration of {salt} in {n_molecules} molecules is {exact:.2g} formula units; ask for "
                f"{round(n_molecules / max(exact, 1e-9)) + 1} molecules or more"
            )
    molecules += [(ion_molecule(ion), number * formula_units) for ion, number in ions.items()]
    return Recipe(tuple(molecules), (cm3 + formula_units * cm3_per_mol) * CM3_PER_MOL_TO_ANGSTROM3)


def _mole_shares(
    chosen: Sequence[Molecule], names: Sequence[str], parts: Sequence[float] | None, by: Literal["mole", "mass"]
) -> list[float]:
    parts = [1.0] * len(names) if parts is None else list(parts)
    if not names:
        raise ValueError(f"name a solvent: {', '.join(SOLVENTS)}, or a SMILES")
    if len(set(names)) < len(names):
        raise ValueError(f"a solvent is named twice: {', '.join(names)}")
    if len(parts) != len(names) or min(parts) <= 0:
        raise ValueError(f"there are {len(names)} solvents and the parts {parts}; give one above zero for each")
    if by == "mole":
        return parts
    return [part / molecule.mass for part, molecule in zip(parts, chosen, strict=True)]


def _units_of_molar(molar: float, cm3: float, cm3_per_mol: float, salt: str) -> float:
    """Formula units that make this molarity in this volume of solvent, which the salt adds to [cm³/mol]."""
    if np.isnan(cm3):
        raise ValueError(NO_DENSITY)
    left = 1000 - molar * cm3_per_mol
    if left <= 0:
        raise ValueError(f"{molar} mol of {salt} take more than a litre; ask for less, or give `molal`")
    return molar * cm3 / left


def _volume(recipe: Recipe, density: float | None) -> float:
    """[Å³]."""
    if density is None:
        if np.isnan(recipe.volume):
            raise ValueError(NO_DENSITY)
        return recipe.volume
    _check_density(density, recipe.mass, recipe.volume / CM3_PER_MOL_TO_ANGSTROM3)
    return recipe.mass / density * CM3_PER_MOL_TO_ANGSTROM3


def _check_density(density: float, mass: float, cm3: float) -> None:
    """mass: [g]; cm3: the volume of as much by ideal mixing, NaN where that is not known."""
    if density > DENSEST * mass / cm3:
        raise ValueError(
            f"`density_g_per_cm3` is {density}, but ideal mixing gives {mass / cm3:.3f}; such a liquid is not known"
        )
