"""Partial charges of atoms, from a line, a table or a System that OpenMM wrote."""

import csv
from pathlib import Path
from xml.etree import ElementTree

import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.selection import element_symbols

Array = NDArray[np.float64]


def charges_of(topology: mdtraj.Topology, charges: str | Path) -> Array:
    """Charge of every atom in e, (n,).

    charges: `O=-0.8476 H=0.4238` by names of atoms or elements (a name counts before an element); or a file: .csv with
    the columns `atom` and `charge_e`, of which `atom` holds such names or, all of them, indices from zero; or .xml, a
    System that OpenMM wrote, with its NonbondedForce.
    """
    path = Path(charges)
    if path.suffix.lower() == ".xml":
        return _of_system(topology, path)
    if path.suffix.lower() == ".csv":
        rows = _rows_of_table(path)
        if rows and all(name.isdecimal() for name, _ in rows):
            return _by_index(topology, {int(name): value for name, value in rows}, path.name)
        return _by_name(topology, dict(rows), f"`{path.name}`")
    words = str(charges).replace(",", " ").split()
    pairs = [word.partition("=")[::2] for word in words]
    try:
        by_name = {name: float(value) for name, value in pairs}
    except ValueError:
        raise ValueError(
            f"the charges `{charges}` are not of the form `O=-0.8476 H=0.4238`, nor the name of a .csv or .xml file"
        ) from None
    return _by_name(topology, by_name, f"`{charges}`")


def _by_name(topology: mdtraj.Topology, charges: dict[str, float], source: str) -> Array:
    symbols = element_symbols(topology)
    found = np.empty(topology.n_atoms)
    for atom, symbol in zip(topology.atoms, symbols, strict=True):
        if atom.name not in charges and symbol not in charges:
            raise ValueError(
                f"{source} has no charge for atom {atom.index} ({atom.name}, element {symbol}); "
                f"give one by its name or its element"
            )
        found[atom.index] = charges[atom.name] if atom.name in charges else charges[symbol]
    unused = set(charges) - {atom.name for atom in topology.atoms} - set(symbols.tolist())
    if unused:
        raise ValueError(f"{source} has a charge for {', '.join(sorted(unused))}, which the topology does not have")
    return found


def _by_index(topology: mdtraj.Topology, charges: dict[int, float], file: str) -> Array:
    if sorted(charges) != list(range(topology.n_atoms)):
        raise ValueError(
            f"`{file}` has charges of {len(charges)} atoms up to index {max(charges)}, but the topology has "
            f"{topology.n_atoms}; give each atom one, counted from zero"
        )
    return np.array([charges[k] for k in range(topology.n_atoms)])


def _rows_of_table(path: Path) -> list[tuple[str, float]]:
    if not path.exists():
        raise FileNotFoundError(f"there is no file `{path}`")
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if not {"atom", "charge_e"} <= set(reader.fieldnames or ()):
            raise ValueError(f"`{path.name}` has no columns `atom` and `charge_e`; name them so")
        rows = list(reader)
    try:
        return [(row["atom"], float(row["charge_e"])) for row in rows]
    except (TypeError, ValueError):
        raise ValueError(f"`{path.name}` has a `charge_e` that is no number; give charges in e") from None


def _of_system(topology: mdtraj.Topology, path: Path) -> Array:
    """The file is read as plain XML: OpenMM itself would run what a PythonForce in it says."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file `{path}`")
    try:
        forces = ElementTree.parse(path).getroot().findall("./Forces/Force[@type='NonbondedForce']")
    except ElementTree.ParseError as error:
        raise ValueError(f"`{path.name}` is no XML ({error}); give a System as OpenMM writes it") from error
    if len(forces) != 1:
        raise ValueError(
            f"`{path.name}` has {len(forces)} forces of type NonbondedForce, where one holds the charges; "
            f"give a System of a force field"
        )
    particles = forces[0].findall("./Particles/Particle")
    try:
        found = np.array([float(particle.attrib["q"]) for particle in particles])
    except (KeyError, ValueError):
        raise ValueError(
            f"`{path.name}` has a particle without a charge `q` that is a number; give a System as OpenMM writes it"
        ) from None
    if len(found) != topology.n_atoms:
        raise ValueError(f"`{path.name}` has charges of {len(found)} atoms, the topology has {topology.n_atoms} atoms")
    return found
