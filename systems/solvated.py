"""Peptides and proteins from structure files, with hydrogens, in water with ions."""

import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from openmm import app, unit

from openmm_allegro.structure import read_structure
from openmm_allegro.systems.molecules import ions_of
from openmm_allegro.systems.water import System

FORCE_FIELD = ("amber14-all.xml", "amber14/tip3p.xml")
"""By which hydrogens and water are placed; a simulation need not use it."""


def solvated(
    path: str | Path,
    *,
    padding_nm: float = 1.0,
    salt: str = "NaCl",
    molar: float = 0.0,
    ph: float = 7.0,
    repair: bool = False,
    seed: int = 0,
) -> System:
    """A peptide or protein with the hydrogens of a pH, in a box of water with ions, neutral as a whole.

    OpenMM leaves out water near the solute and the faces of the box, so it starts too light, a box of 2 nm by a tenth:
    let a barostat find the density. Molecules that meet across the faces may be too close: relax it.

    Parameters
    ----------
    padding_nm
        Least distance of the solute from its images: the edge of the cube is that and the diameter of the sphere around
        the solute, so the faces of the box may be half of it away.
    salt, molar
        A salt of single charges, such as NaCl, and its concentration in the water [mol/L], beside the ions that
        neutralise the solute.
    repair
        Whether PDBFixer adds missing heavy atoms and takes away what is not protein, nucleic acid or water.
    seed
        Of the places of ions and, before they are minimised, of hydrogens.
    """
    if padding_nm <= 0:
        raise ValueError(f"`padding_nm` is {padding_nm}; it must be above zero")
    if molar < 0:
        raise ValueError(f"`molar` is {molar}; it must be zero or more")
    cation, anion = ions_of(salt)
    if sorted(ions_of(salt).values()) != [1, 1] or anion not in ("F", "Cl", "Br", "I") or cation in ("Mg", "Ca"):
        raise ValueError(f"`salt` is {salt}; water around a solute takes a salt of single charges, such as NaCl or KCl")
    modeller = _repaired(Path(path)) if repair else _as_it_is(Path(path))
    field = app.ForceField(*FORCE_FIELD)
    try:
        with _drawn_by(seed):
            modeller.addHydrogens(field, pH=ph)
            modeller.addSolvent(
                field,
                padding=padding_nm * unit.nanometer,
                positiveIon=f"{cation}+",
                negativeIon=f"{anion}-",
                ionicStrength=molar * unit.molar,
            )
    except ValueError as error:
        raise ValueError(
            f"`{path}` could not be solvated: {error}; `repair` adds missing atoms and removes what the force field of "
            "proteins and nucleic acids does not know"
        ) from error
    box = modeller.topology.getPeriodicBoxVectors()
    places = np.array(modeller.positions.value_in_unit(unit.nanometer))
    centre = np.array(box.value_in_unit(unit.nanometer)).sum(0) / 2
    places += centre - (places.min(0) + places.max(0)) / 2
    return modeller.topology, unit.Quantity(places, unit.nanometer), box


@contextmanager
def _drawn_by(seed: int) -> Iterator[None]:
    """OpenMM's modeller draws from Python's generator, which afterwards goes on as it would have done."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _as_it_is(path: Path) -> app.Modeller:
    structure = read_structure(path)
    return app.Modeller(structure.topology, unit.Quantity(structure.positions_nm, unit.nanometer))


def _repaired(path: Path) -> app.Modeller:
    try:
        pdbfixer = importlib.import_module("pdbfixer")
    except ImportError as error:
        raise RuntimeError(
            "missing atoms are added by PDBFixer, which is not installed; `pip install 'openmm-allegro[build]'`"
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"there is no structure file `{path}`")
    fixer = pdbfixer.PDBFixer(filename=str(path))
    fixer.findMissingResidues()
    fixer.missingResidues = {}  # loops that the experiment did not see would be invented
    fixer.findNonstandardResidues()
    fixer.replaceNonstandardResidues()
    # its own removal of heterogens takes the caps too
    modeller = app.Modeller(fixer.topology, fixer.positions)
    kept = {*pdbfixer.pdbfixer.proteinResidues, *pdbfixer.pdbfixer.dnaResidues, *pdbfixer.pdbfixer.rnaResidues}
    kept |= {"HOH", "ACE", "NME"}
    modeller.delete([residue for residue in modeller.topology.residues() if residue.name not in kept])
    fixer.topology, fixer.positions = modeller.topology, modeller.positions
    fixer.findMissingAtoms()
    fixer.addMissingAtoms()
    return app.Modeller(fixer.topology, fixer.positions)
