"""Trajectories without jumps across the faces of the periodic cell.

Symbols used in this file
    f  frames     n  atoms     x  Cartesian axis
"""

import warnings

import mdtraj
import numpy as np

from openmm_allegro.analysis.frames import element_masses


def unwrapped_positions_nm(trajectory: mdtraj.Trajectory) -> np.ndarray:
    """Positions followed from frame to frame, (f, n, 3) in nm, float64; as they are where there is no cell.

    Every frame is wrapped into its own cell first and the nearest-image steps are then added up, so that it does not
    matter how the trajectory was written, and a barostat's scaling is not mistaken for motion far from the origin (J.
    T. Bullerjahn et al., J. Chem. Theory Comput. 19, 3406 (2023)).
    """
    positions = trajectory.xyz.astype(np.float64)
    if trajectory.unitcell_vectors is None or trajectory.n_frames < 2:
        return positions
    longest = 0.0
    previous = positions[0]
    for f, cell in enumerate(trajectory.unitcell_vectors.astype(np.float64)):
        inverse = np.linalg.inv(cell)
        wrapped = positions[f] - np.floor(positions[f] @ inverse) @ cell  # (n, 3)
        if f > 0:
            step = (wrapped - previous) @ inverse
            step -= np.rint(step)
            longest = max(longest, float(np.abs(step).max()))
            positions[f] = positions[f - 1] + step @ cell
        previous = wrapped
    if longest > 0.4:
        warnings.warn(
            f"an atom moves by {longest:.2f} of the cell between two frames, so that its path is a guess; "
            f"write frames more often",
            stacklevel=2,
        )
    return positions


def remove_drift(positions_nm: np.ndarray, topology: mdtraj.Topology) -> np.ndarray:
    """Positions relative to the centre of mass of all atoms. positions_nm: (f, n, 3). Returns (f, n, 3)."""
    masses = element_masses(topology)
    centre = np.einsum("fnx,n->fx", positions_nm, masses / masses.sum())
    return positions_nm - centre[:, None]
