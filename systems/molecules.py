"""Molecules and ions of liquids: geometries, and the volumes that they take."""

import importlib
import re
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from openmm_allegro.systems.files import known_names

Array = NDArray[np.float64]


class Molecule(NamedTuple):
    """One molecule or ion."""

    residue: str
    """Its residue name in files: three letters at most."""
    symbols: tuple[str, ...]
    positions: Array
    """(atoms, 3) [Å]."""
    bonds: tuple[tuple[int, int], ...]
    charge: int

    @property
    def mass(self) -> float:
        """[g/mol]."""
        return float(sum(atomic_masses[atomic_numbers[symbol]] for symbol in self.symbols))


class Solvent(NamedTuple):
    """A liquid."""

    residue: str
    smiles: str
    density: float
    """[g/cm³] at 25 °C; of ethylene carbonate, which melts at 36 °C, at 40 °C."""


class Ion(NamedTuple):
    """A charged particle in solution."""

    residue: str
    charge: int
    volume: float
    """Partial molar volume [cm³/mol], on the scale where that of H⁺ in water is zero."""
    smiles: str = ""
    """Empty for a single atom and for the symmetric ions."""


SOLVENTS = {
    "water": Solvent("HOH", "O", 0.997),
    "EC": Solvent("EC", "O=C1OCCO1", 1.321),
    "PC": Solvent("PC", "CC1COC(=O)O1", 1.200),
    "DMC": Solvent("DMC", "COC(=O)OC", 1.063),
    "EMC": Solvent("EMC", "CCOC(=O)OC", 1.006),
    "DEC": Solvent("DEC", "CCOC(=O)OCC", 0.969),
}
"""Densities: CRC Handbook of Chemistry and Physics; Xu, Chem. Rev. 104, 4303 (2004)."""

IONS = {
    "Li": Ion("LI", 1, -0.9),
    "Na": Ion("NA", 1, -1.2),
    "K": Ion("K", 1, 9.0),
    "Rb": Ion("RB", 1, 14.1),
    "Cs": Ion("CS", 1, 21.3),
    "Mg": Ion("MG", 2, -21.2),
    "Ca": Ion("CA", 2, -17.9),
    "F": Ion("F", -1, -1.2),
    "Cl": Ion("CL", -1, 17.8),
    "Br": Ion("BR", -1, 24.7),
    "I": Ion("IOD", -1, 36.2),
    "BF4": Ion("BF4", -1, 36.0),
    "PF6": Ion("PF6", -1, 36.0),
    "TFSI": Ion("TFS", -1, 145.0, "FC(F)(F)S(=O)(=O)[N-]S(=O)(=O)C(F)(F)F"),
}
"""Single atoms: in water at infinite dilution, Millero, Chem. Rev. 71, 147 (1971). The molecular anions: estimates from
densities of 1 mol/L of their lithium salts in carbonates, good for the density to about two per cent."""

B_F = 1.39
"""Of the tetrahedron [Å]."""
P_F = 1.60
"""Of the octahedron [Å]."""


@lru_cache
def solvent_molecule(name: str, number: int = 1) -> Molecule:
    """One of `SOLVENTS`, or a SMILES of a neutral molecule, with the lowest of ten conformers by MMFF94.

    number: by which the residue of a SMILES is called S01, S02, …; readers add the bonds of an amino acid to UNK.
    """
    if name in SOLVENTS:
        return _from_smiles(SOLVENTS[name].smiles, SOLVENTS[name].residue)
    if name.isalpha() and name.upper() in {*map(str.upper, SOLVENTS), *map(str.upper, IONS)}:
        raise ValueError(f"there is no solvent {known_names(name, SOLVENTS)}; a salt is named by `salt`")
    try:
        molecule = _from_smiles(name, f"S{number:02d}")
    except ValueError as error:
        raise ValueError(f"there is no solvent {known_names(name, SOLVENTS)}; or give a SMILES ({error})") from error
    if molecule.charge != 0:
        raise ValueError(f"`{name}` has a charge of {molecule.charge:+d}; give ions by `salt`")
    return molecule


@lru_cache
def ion_molecule(name: str) -> Molecule:
    """One of `IONS`."""
    ion = IONS[name]
    if ion.smiles:
        return _from_smiles(ion.smiles, ion.residue)
    axes = np.vstack([np.eye(3), -np.eye(3)])
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    around = {"PF6": P_F * axes, "BF4": B_F * corners}.get(name, np.zeros((0, 3)))
    symbols = (name[0], *["F"] * len(around)) if len(around) else (name,)
    bonds = tuple((0, index + 1) for index in range(len(around)))
    return Molecule(ion.residue, symbols, np.vstack([np.zeros((1, 3)), around]), bonds, ion.charge)


def ions_of(salt: str) -> dict[str, int]:
    """How many of each ion a formula such as MgCl2 or Mg(TFSI)2 has; the cation first."""
    names = sorted(IONS, key=len, reverse=True)
    cations = "|".join(name for name in names if IONS[name].charge > 0)
    anions = "|".join(name for name in names if IONS[name].charge < 0)
    found = re.fullmatch(rf"({cations})(\d*)(?:\(({anions})\)|({anions}))(\d*)", salt)
    if found is None:
        positive, negative = ([n for n in IONS if sign * IONS[n].charge > 0] for sign in (1, -1))
        raise ValueError(
            f"`{salt}` is not the formula of a salt, such as NaCl or Ca(TFSI)2, of one of {', '.join(positive)} with "
            f"one of {', '.join(negative)}"
        )
    cation, n_cations, bracketed, plain, n_anions = found.groups()
    anion = bracketed or plain
    counts = {cation: int(n_cations or 1), anion: int(n_anions or 1)}
    charge = sum(IONS[ion].charge * number for ion, number in counts.items())
    if charge != 0:
        raise ValueError(f"the formula `{salt}` has a charge of {charge:+d}; write a neutral one")
    return counts


def _from_smiles(smiles: str, residue: str) -> Molecule:
    chem, embedding = _rdkit("Chem"), _rdkit("Chem.AllChem")
    _rdkit("RDLogger").DisableLog("rdApp.*")
    parsed = chem.MolFromSmiles(smiles)
    if parsed is None:
        raise ValueError(f"`{smiles}` is not a SMILES")
    n_parts = len(chem.GetMolFrags(parsed))
    if n_parts > 1:
        raise ValueError(f"`{smiles}` has {n_parts} molecules; name each by itself, and ions by `salt`")
    if any(atom.GetAtomicNum() == 0 or atom.GetIsotope() for atom in parsed.GetAtoms()):
        raise ValueError(f"`{smiles}` has a wildcard or an isotope; write plain elements")
    molecule = chem.AddHs(parsed)
    conformers = list(embedding.EmbedMultipleConfs(molecule, 10, randomSeed=1))
    energies = [energy for _, energy in embedding.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)]
    if not conformers:
        raise ValueError(f"RDKit finds no geometry for `{smiles}`")
    positions = molecule.GetConformer(conformers[int(np.argmin(energies))]).GetPositions()
    return Molecule(
        residue,
        tuple(atom.GetSymbol() for atom in molecule.GetAtoms()),
        positions - positions.mean(0),
        tuple((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()),
        chem.GetFormalCharge(molecule),
    )


def _rdkit(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"rdkit.{name}")
    except ImportError as error:
        raise RuntimeError(
            "geometries of molecules come from RDKit, which is not installed; `pip install 'openmm-allegro[build]'`"
        ) from error
