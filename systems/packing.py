"""Molecules packed into a periodic box without overlap, by Packmol."""

import importlib.util
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import ase
import ase.io
import numpy as np
from numpy.typing import NDArray
from openmm import Vec3, app, unit
from rich.console import Console

from openmm_allegro import units
from openmm_allegro.systems.molecules import Molecule
from openmm_allegro.systems.water import System

Array = NDArray[np.float64]
BETWEEN_MOLECULES = 2.0
"""Shortest distance of atoms of different molecules [Å]."""
LOOPS = 40
"""Of Packmol's search before it gives up; liquids at their densities take three to eight."""


def packed(molecules: Sequence[tuple[Molecule, int]], lengths: Array, seed: int = 0, *, walls: bool = False) -> System:
    """So many of each molecule in a rectangular periodic box, turned and placed at random without overlap.

    lengths: of the box, (3,) [Å]; walls: whether no molecule crosses the faces along z. Packmol: Martínez, Andrade,
    Birgin and Martínez, J. Comput. Chem. 30, 2157 (2009).
    """
    positions = _packmol(molecules, lengths, seed, walls)
    topology = app.Topology()
    chain = topology.addChain("A")
    for molecule, number in molecules:
        for _ in range(number):
            _add_molecule(topology, chain, molecule)
    box = unit.Quantity([Vec3(*row) for row in np.diag(lengths * units.ANGSTROM_TO_NM)], unit.nanometer)
    topology.setPeriodicBoxVectors(box)
    return topology, unit.Quantity(positions * units.ANGSTROM_TO_NM, unit.nanometer), box


def _add_molecule(topology: app.Topology, chain: object, molecule: Molecule) -> None:
    residue = topology.addResidue(molecule.residue, chain)
    counts: dict[str, int] = {}
    atoms = []
    for symbol in molecule.symbols:
        counts[symbol] = counts.get(symbol, 0) + 1
        single = molecule.symbols.count(symbol) == 1
        name = molecule.residue if len(molecule.symbols) == 1 else symbol if single else f"{symbol}{counts[symbol]}"
        atoms.append(topology.addAtom(name, app.Element.getBySymbol(symbol), residue))
    for first, second in molecule.bonds:
        topology.addBond(atoms[first], atoms[second])


def _packmol(molecules: Sequence[tuple[Molecule, int]], lengths: Array, seed: int, walls: bool) -> Array:
    """Positions of all atoms, molecule by molecule, (atoms, 3) [Å]."""
    program = _program()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [
            f"tolerance {BETWEEN_MOLECULES}",
            f"seed {seed + 1}",
            f"nloop {LOOPS}",
            "filetype xyz",
            "output packed.xyz",
            "pbc " + " ".join(f"{length:.6f}" for length in lengths),
        ]
        between = ["  above plane 0. 0. 1. 0.", f"  below plane 0. 0. 1. {lengths[2]:.6f}"] if walls else []
        for index, (molecule, number) in enumerate(molecules):
            ase.io.write(folder / f"{index}.xyz", ase.Atoms(molecule.symbols, molecule.positions), format="xyz")
            lines += [f"structure {index}.xyz", f"  number {number}", *between, "end structure"]
        (folder / "packmol.inp").write_text("\n".join(lines) + "\n")
        console = Console(stderr=True)
        waiting = console.status("packing molecules") if console.is_terminal else nullcontext()
        with (folder / "packmol.inp").open() as given, waiting:
            done = subprocess.run([program], stdin=given, cwd=folder, capture_output=True, text=True, check=False)
        if "Success!" not in done.stdout:
            total = sum(number for _, number in molecules)
            box = " × ".join(f"{length:.1f}" for length in lengths)
            raise ValueError(
                f"Packmol finds no place for {total} molecules in {box} Å with {BETWEEN_MOLECULES} Å between them; ask "
                "for a lower density and compress it with a barostat"
            )
        atoms = ase.io.read(folder / "packed.xyz")
        assert isinstance(atoms, ase.Atoms)
        return np.asarray(atoms.positions)


def _program() -> Path:
    found = importlib.util.find_spec("packmol")
    if found is None or found.origin is None:
        raise RuntimeError(
            "liquids are packed by Packmol, which is not installed; `pip install 'openmm-allegro[build]'`"
        )
    return Path(found.origin).parent / "binaries" / "packmol"
