"""Elements in GROMACS' .gro files, which name none: what mdtraj guesses from names, and where that is wrong."""

import re

import mdtraj


def refuse_wrong_guesses(topology: mdtraj.Topology, name: str) -> None:
    """Stop where mdtraj takes the ions NA, CL and LI for nitrogen, carbon and a site of no mass. name: of the file."""
    for atom in topology.atoms:
        letters = re.sub("[^A-Za-z]", "", atom.name).title()
        guessed = "nothing" if atom.element.symbol == "VS" else atom.element.symbol
        lost = guessed == "nothing" and _is_symbol(letters)
        if lost or (atom.residue.n_atoms == 1 and guessed != letters):
            raise ValueError(
                f"`{name}` names no elements, and mdtraj takes atom {atom.index} ({atom}) for {guessed}; give a "
                f"structure file with elements, such as a PDB file, or rename the atom to its symbol, such as `Na`"
            )


def _is_symbol(letters: str) -> bool:
    try:
        mdtraj.element.get_by_symbol(letters)
    except KeyError:
        return False
    return True
