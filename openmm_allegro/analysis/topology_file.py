"""Structure files to topologies, of whose elements an analysis can be sure."""

import re
from pathlib import Path

import mdtraj


def read_topology(path: str | Path) -> mdtraj.Topology:
    """Atoms, residues and bonds of any structure file that mdtraj reads."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file `{path}`")
    try:
        topology = mdtraj.load_topology(str(path))
    except Exception as error:  # of many kinds, by format
        raise ValueError(
            f"`{path}` cannot be read as a structure file ({error}); give for example the start.pdb of the run"
        ) from error
    if path.suffix.lower() == ".gro":
        _refuse_wrong_guesses(topology, path)
    return topology


def _refuse_wrong_guesses(topology: mdtraj.Topology, path: Path) -> None:
    """A .gro file names no elements: mdtraj takes the ions NA, CL and LI for nitrogen, carbon and a site of no mass."""
    for atom in topology.atoms:
        letters = re.sub("[^A-Za-z]", "", atom.name).title()
        guessed = "nothing" if atom.element.symbol == "VS" else atom.element.symbol
        lost = guessed == "nothing" and _is_symbol(letters)
        if lost or (atom.residue.n_atoms == 1 and guessed != letters):
            raise ValueError(
                f"`{path.name}` names no elements, and mdtraj takes atom {atom.index} ({atom}) for {guessed}; give a "
                f"structure file with elements, such as a PDB file, or rename the atom to its symbol, such as `Na`"
            )


def _is_symbol(letters: str) -> bool:
    try:
        mdtraj.element.get_by_symbol(letters)
    except KeyError:
        return False
    return True
