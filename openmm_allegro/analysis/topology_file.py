"""Structure files to topologies, of whose elements and order an analysis can be sure."""

import warnings
from pathlib import Path

import mdtraj
import numpy as np

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.gro_elements import refuse_wrong_guesses

LONGEST_BOND_NM = 0.3


def read_topology(path: str | Path) -> mdtraj.Topology:
    """Atoms, residues and bonds of any structure file that mdtraj reads."""
    path = Path(path)
    if not path.exists():
        other = path.with_suffix(".cif")  # what runs write where PDB has no room
        raise FileNotFoundError(f"there is no file `{path}`" + (f"; give `{other}`" if other.exists() else ""))
    try:
        topology = mdtraj.load_topology(str(path))
    except Exception as error:  # of many kinds, by format
        raise ValueError(
            f"`{path}` cannot be read as a structure file ({error}); give for example the start.pdb of the run"
        ) from error
    if path.suffix.lower() == ".gro":
        refuse_wrong_guesses(topology, path.name)
    return topology


def warn_of_another_order(frames: Frames, name: str) -> None:
    """Say so where many bonds of the topology are none in the first frame, as of atoms in another order.

    name: of the trajectory.
    """
    bonds = np.array([(a.index, b.index) for a, b in frames.topology.bonds], dtype=np.int64).reshape(-1, 2)
    if len(bonds) == 0:
        return
    positions = next(frames.positions_nm(broken=True))
    vectors = positions[bonds[:, 1]] - positions[bonds[:, 0]]
    if frames.cells_nm is not None and np.linalg.det(frames.cells_nm[0]) > 0:
        cell = frames.cells_nm[0]
        vectors -= np.rint(vectors @ np.linalg.inv(cell)) @ cell
    lengths = np.linalg.norm(vectors, axis=1)
    long = np.flatnonzero(lengths > LONGEST_BOND_NM)
    if len(long) > 0.1 * len(bonds):
        a, b = (frames.topology.atom(int(atom)) for atom in bonds[long[0]])
        or_else = ", or a trajectory with its cell" if frames.cells_nm is None else ""
        warnings.warn(
            f"{len(long)} of the {len(bonds)} bonds of the topology are longer than {LONGEST_BOND_NM:g} nm in the "
            f"first frame of `{name}`, such as {a}–{b} with {lengths[long[0]]:.2g} nm; give a topology with the atoms "
            f"in the order of the trajectory{or_else}",
            stacklevel=3,
        )
