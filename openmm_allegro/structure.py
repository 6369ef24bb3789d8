"""Structure files as OpenMM takes them: a topology with its box, and positions.

Symbols used in this file
    n  atoms
"""

import itertools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.xyz_text import check_file

if TYPE_CHECKING:
    import ase

Array = NDArray[np.float64]
WHOLE = 0.999
"""An occupancy from here on is no part."""
WIDEST_PDB_NM = 99.9
"""A coordinate of -999.999 Å fills its columns in a PDB file."""


class Structure(NamedTuple):
    """Atoms and where they are."""

    topology: app.Topology
    """With the periodic box, where there is one."""
    positions_nm: Array
    """(n, 3)."""


def read_structure(path: Path | str, replicate: tuple[int, int, int] = (1, 1, 1)) -> Structure:
    """Read a PDB, an mmCIF, a .gro, or a file that ASE reads (its last frame); copy the box `replicate` times."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no structure file `{path}`")
    structure = _read(path)
    for atom in structure.topology.atoms():
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name}) of `{path}` has no chemical element; "
                "add the element column or remove the atom"
            )
    box = structure.topology.getPeriodicBoxVectors()
    if box is not None:
        volume = np.linalg.det([list(vector.value_in_unit(unit.angstrom)) for vector in box])
        if volume < structure.topology.getNumAtoms():
            raise ValueError(
                f"`{path}` has a periodic box of {volume:.3g} Å³ for {structure.topology.getNumAtoms()} atoms; remove "
                "the box (in a PDB file the CRYST1 record), or correct it"
            )
    if replicate == (1, 1, 1):
        return structure
    if structure.topology.getPeriodicBoxVectors() is None:
        raise ValueError(f"`replicate` copies a periodic box, and `{path}` has none")
    return _replicated(structure, replicate)


def write_structure(folder: Path, name: str, topology: app.Topology, state: openmm.State) -> Path:
    """Write positions and box of a state as PDB, or as mmCIF when PDB has no room for the atoms."""
    if topology.getPeriodicBoxVectors() is not None:
        topology.setPeriodicBoxVectors(state.getPeriodicBoxVectors())
    return write_positions(folder, name, topology, state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))


def structure_files(name: str) -> tuple[str, str]:
    """What a structure of this name may be called."""
    return name + ".pdb", name + ".cif"


def write_positions(folder: Path, name: str, topology: app.Topology, positions_nm: Array) -> Path:
    """Write positions (n, 3) [nm] and the topology's box in the same way."""
    fits = topology.getNumAtoms() < 100_000 and np.abs(positions_nm).max() < WIDEST_PDB_NM and names_fit_pdb(topology)
    pdb, cif = structure_files(name)
    writer, file_name = (app.PDBFile, pdb) if fits else (app.PDBxFile, cif)
    path = folder / file_name
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        writer.writeFile(topology, positions_nm * unit.nanometer, file, keepIds=True)
    return temporary.replace(path)


def names_fit_pdb(topology: app.Topology) -> bool:
    """Whether no two atoms of a residue have one name in a PDB file, which cuts names to four letters."""
    names = [(atom.residue.index, atom.name[:4]) for atom in topology.atoms()]
    return len(set(names)) == len(names)


def _read(path: Path) -> Structure:
    suffix = path.suffix.lower()
    try:
        if suffix in (".pdb", ".ent"):
            return _from_openmm(_pdb_file(path))
        if suffix in (".cif", ".mmcif", ".pdbx") and "_atom_site.Cartn_x" in path.read_text():
            return _from_openmm(app.PDBxFile(str(path)))
        return _from_gro(path) if suffix == ".gro" else _from_ase(path)
    except Exception as error:  # readers of many formats fail in many ways, some without a word
        reason = str(error) if " " in str(error) else f"{type(error).__name__} {error}; give PDB, mmCIF or extended XYZ"
        raise ValueError(f"`{path}` could not be read as a structure: {reason}") from error


def _pdb_file(path: Path) -> app.PDBFile:
    """What OpenMM reads, which leaves out every atom whose name another one of its residue has."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        file = app.PDBFile(str(path))
    left_out = [str(each.message).partition("duplicate atom (")[2] for each in said]
    records = [" ".join(text[:26].split()) for text in left_out if text]  # such as ATOM 3 H HOH A 1
    if records:
        raise ValueError(
            f"OpenMM leaves out {len(records)} of its atoms, whose names others of their residue have, such as "
            f"`{records[0]}`; name the atoms of each residue differently, or give extended XYZ, which needs no names"
        )
    for each in said:
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return file


def _from_openmm(file: app.PDBFile | app.PDBxFile) -> Structure:
    return Structure(file.topology, np.array(file.getPositions(asNumpy=True).value_in_unit(unit.nanometer)))


def _from_gro(path: Path) -> Structure:
    import mdtraj

    from openmm_allegro.gro_elements import refuse_wrong_guesses

    last = mdtraj.load(str(path))[-1]
    refuse_wrong_guesses(last.topology, path.name)
    topology = last.topology.to_openmm()
    if last.unitcell_vectors is not None and np.any(last.unitcell_vectors):
        topology.setPeriodicBoxVectors(_reduced(last.unitcell_vectors[0].astype(np.float64)) * unit.nanometer)
    return Structure(topology, last.xyz[0].astype(np.float64))


def _from_ase(path: Path) -> Structure:
    import ase.io

    atoms = ase.io.read(path, index=-1, parallel=False)  # under MPI it would wait for ranks that do not read
    check_file(path)  # the last frame may be behind an empty line
    assert isinstance(atoms, ase.Atoms)  # one index, one frame
    for shares in atoms.info.get("occupancy", {}).values():
        if len(shares) > 1 or min(shares.values()) < WHOLE:
            site = ", ".join(f"{symbol} {share:g}" for symbol, share in shares.items())
            raise ValueError(
                f"a site is occupied in part ({site}); draw whole atoms with `openmm-allegro build crystal {path}`"
            )
    return structure_from_atoms(atoms)


def structure_from_atoms(atoms: "ase.Atoms") -> Structure:
    """What ASE holds, turned and reduced where its box is not as OpenMM wants it."""
    positions_nm = atoms.positions * units.ANGSTROM_TO_NM
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain("A"))
    for number, symbol in enumerate(atoms.get_chemical_symbols()):
        if symbol == "X":
            raise ValueError(f"atom {number} is X, which is no chemical element; remove the atom")
        topology.addAtom(f"{symbol}{number + 1}", app.Element.getBySymbol(symbol), residue)
    if not atoms.pbc.any():
        return Structure(topology, positions_nm)
    if not atoms.pbc.all():
        raise ValueError(f"it is periodic along {atoms.pbc.sum()} of 3 directions; OpenMM knows all or none")
    if atoms.cell.rank < 3:
        raise ValueError("it is periodic, but its cell has no volume; add the cell vectors, or say that it is not")
    if np.linalg.det(atoms.cell) <= 0:
        raise ValueError("its cell vectors are not right-handed; swap two of them")
    # OpenMM wants a along x and b in the xy plane: the same crystal, turned.
    fractions = atoms.cell.scaled_positions(atoms.positions)
    turned = np.array(atoms.cell.standard_form()[0]) * units.ANGSTROM_TO_NM
    topology.setPeriodicBoxVectors(_reduced(turned) * unit.nanometer)
    return Structure(topology, fractions @ turned)


def _reduced(cell: Array) -> Array:
    """The shortest vectors of the same lattice in the form that OpenMM wants. cell: (3, 3) rows, lower triangle."""
    a, b, c = cell
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    return np.tril([a, b, c])


def _replicated(structure: Structure, replicate: tuple[int, int, int]) -> Structure:
    box = structure.topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer)
    cell = np.array([list(vector) for vector in box])  # (3, 3) rows
    topology = app.Topology()
    images = list(itertools.product(*(range(count) for count in replicate)))
    for image in range(len(images)):
        _copy_atoms(structure.topology, topology, first=image == 0)
    topology.setPeriodicBoxVectors(_reduced(cell * np.array(replicate)[:, None]) * unit.nanometer)
    shifts = np.array(images) @ cell  # (images, 3)
    return Structure(topology, (shifts[:, None] + structure.positions_nm).reshape(-1, 3))


def _copy_atoms(source: app.Topology, target: app.Topology, first: bool) -> None:
    """Chains of all copies but the first are numbered: readers of mmCIF would join two chains of one name."""
    copies = {}
    for chain in source.chains():
        new_chain = target.addChain(chain.id if first else None)
        for residue in chain.residues():
            new_residue = target.addResidue(residue.name, new_chain, residue.id, residue.insertionCode)
            for atom in residue.atoms():
                copies[atom] = target.addAtom(atom.name, atom.element, new_residue, atom.id)
    for bond in source.bonds():
        target.addBond(copies[bond[0]], copies[bond[1]], bond.type, bond.order)
