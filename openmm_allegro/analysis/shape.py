"""Size of molecules: radius of gyration and distance between ends."""

import mdtraj
import numpy as np

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import Molecules
from openmm_allegro.analysis.selection import atoms_of, plain
from openmm_allegro.analysis.series import Series


def radius_of_gyration(frames: Frames | mdtraj.Trajectory, selection: str = "protein") -> Series:
    """Mass-weighted radius of gyration of each molecule of the selection, mean over molecules.

    R² = Σ m (r − r_cm)² / Σ m over whole molecules, as bonds among the selected atoms make them; single atoms do not
    count. The error of the mean is from blocks of frames.
    """
    frames = Frames.of(frames)
    molecules = Molecules.of(frames, atoms_of(frames.topology, selection))
    large = np.bincount(molecules.molecule) > 1
    if not np.any(large):
        raise ValueError(f"the selection `{selection}` has no two atoms that are bonded; select whole molecules")
    values = np.empty(frames.n_frames)
    for f, positions in enumerate(frames.positions_nm(molecules.atoms)):
        whole = molecules.whole_nm(positions, None if frames.cells_nm is None else frames.cells_nm[f])
        off = ((whole - molecules.centres(whole)[molecules.molecule]) ** 2).sum(axis=1, keepdims=True)
        values[f] = np.sqrt(molecules.centres(off)[large, 0]).mean()
    name = f"gyration_{plain(selection)}"
    return Series(name, "radius of gyration", "gyration_radius_nm", "nm", frames.times_ps, values)


def end_to_end_distance(frames: Frames | mdtraj.Trajectory, ends: tuple[str, str]) -> Series:
    """Distance between two atoms of the same molecule along its bonds, mean over molecules.

    ends: selections of one atom of each molecule, in the same order. The error of the mean is from blocks of frames.
    """
    frames = Frames.of(frames)
    molecules = Molecules.of(frames)
    first, last = (atoms_of(frames.topology, end) for end in ends)
    if len(first) != len(last) or np.any(molecules.molecule[first] != molecules.molecule[last]):
        raise ValueError(
            f"`{ends[0]}` has {len(first)} atoms and `{ends[1]}` has {len(last)}, which are not pairs of ends of the "
            f"same molecules; select one atom of each molecule twice"
        )
    values = np.empty(frames.n_frames)
    for f, positions in enumerate(frames.positions_nm()):
        whole = molecules.whole_nm(positions, None if frames.cells_nm is None else frames.cells_nm[f])
        values[f] = np.linalg.norm(whole[last] - whole[first], axis=1).mean()
    name = f"end_to_end_{plain(ends[0])}-{plain(ends[1])}"
    return Series(name, "end-to-end distance", "end_to_end_nm", "nm", frames.times_ps, values)
