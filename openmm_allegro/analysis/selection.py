"""Which atoms an analysis looks at, and what they are."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import mdtraj
import numpy as np
from numpy.typing import NDArray

LONGEST_NAME = 60
"""Of one selection; a file's name, of three of them, may have 255 bytes."""


def element_symbols(topology: mdtraj.Topology) -> NDArray[np.str_]:
    """Chemical symbol of every atom, (n,); "VS" for a site without mass."""
    for atom in topology.atoms:
        if atom.element is None:
            raise ValueError(f"atom {atom.index} ({atom.name}) of the topology has no element; fill the element column")
    return np.array([atom.element.symbol for atom in topology.atoms])


def elements_of(topology: mdtraj.Topology) -> list[str]:
    """Each element once, in the topology's order, without sites that have no mass."""
    return [symbol for symbol in dict.fromkeys(element_symbols(topology).tolist()) if symbol != "VS"]


def element_masses(topology: mdtraj.Topology) -> NDArray[np.float64]:
    """Mass of every atom in g/mol, (n,)."""
    element_symbols(topology)
    return np.array([atom.element.mass for atom in topology.atoms], dtype=np.float64)


def check_masses(masses: NDArray[np.float64], option: str, selection: str) -> None:
    """Refuse sites without mass where a centre of mass is wanted. masses: of its atoms, (k,)."""
    if len(masses) and masses.sum() == 0:
        raise ValueError(f"`{option}` is `{selection}`, which has no mass; choose atoms in place of sites")


def atoms_of(topology: mdtraj.Topology, selection: str) -> NDArray[np.int64]:
    """Indices of the atoms of one element, such as `Li`, or of a selection of mdtraj, such as `name OW`; (k,)."""
    symbols = element_symbols(topology)
    found = np.flatnonzero(symbols == selection)
    if len(found) > 0:
        return found
    present = ", ".join(elements_of(topology))
    if selection.isalpha() and selection.istitle() and len(selection) <= 2:
        raise ValueError(f"there is no {selection} in the topology, which has {present}; choose one of these")
    try:
        found = topology.select(selection)
    except Exception as error:  # mdtraj evaluates it as Python, whose errors are of many kinds
        raise ValueError(
            f"`{selection}` is neither an element of the topology ({present}) nor a selection that mdtraj "
            f"understands; write an element, `name CA`, `resname HOH` or `index 0 to 9`"
        ) from error
    if len(found) == 0:
        without = " in one residue" if topology.n_residues == 1 else ""
        raise ValueError(
            f"the selection `{selection}` has no atoms; the topology has {present}{without}, choose one of these or "
            f"give a topology with the names of atoms and residues that you select"
        )
    return found


@dataclass(frozen=True)
class Selections:
    """Several selections and the atoms of any of them, so that no other atom need be read from a file."""

    atoms: NDArray[np.int64]
    """Atoms of the topology that are in one selection or more, (n,)."""
    places: tuple[NDArray[np.int64], ...]
    """Of each selection its atoms, as indices into `atoms`."""

    @classmethod
    def of(cls, topology: mdtraj.Topology, selections: tuple[str, ...]) -> "Selections":
        found = [atoms_of(topology, selection) for selection in selections]
        atoms = np.unique(np.concatenate(found))
        return cls(atoms, tuple(np.searchsorted(atoms, each) for each in found))

    def shared(self) -> Iterator[tuple[int, int, int]]:
        """Numbers of two selections that have atoms in common, and how many these are."""
        for first, second in combinations(range(len(self.places)), 2):
            count = len(np.intersect1d(self.places[first], self.places[second]))
            if count:
                yield first, second, count


def file_name(selections: tuple[str, ...]) -> str:
    """Selections joined to a part of a file's name: `Li-S`, `name_OW-Cl`."""
    return "-".join(plain(selection) for selection in selections)


def plain(words: str) -> str:
    """Words as a part of a name: `P2S6 (P–P)` becomes `P2S6_P_P`; many of them are cut, with a number of their own."""
    name = re.sub(r"\W+", "_", words).strip("_")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}_{zlib.crc32(words.encode()):08x}"
