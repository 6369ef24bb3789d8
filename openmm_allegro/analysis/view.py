"""A structure to look at: one to turn with the mouse in a notebook, or a picture of it on axes.

Symbols used in this file
    n  atoms     m  molecules     z  bonds
"""

from typing import TYPE_CHECKING

import ase
import mdtraj
import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import Molecules, bonds_of

if TYPE_CHECKING:
    import py3Dmol
    from matplotlib.axes import Axes

BALLS_AND_STICKS = {
    "sphere": {"scale": 0.25, "colorscheme": "Jmol"},
    "stick": {"radius": 0.1, "colorscheme": "Jmol"},
}
RADIUS_ON_PAPER = 0.8
"""Of the covalent one."""

Array = NDArray[np.float64]


def view(
    source: Frames | mdtraj.Trajectory, frame: int = -1, *, wrap: bool = True, width: int = 480, height: int = 360
) -> "py3Dmol.view":
    """A frame as balls and sticks in the colours of the elements, with its cell, to turn in a notebook.

    The last line of a notebook's cell shows it, and the methods of py3Dmol, which it belongs to, change it. The browser
    loads 3Dmol.js (Rego and Koes, Bioinformatics 31, 1322, 2015) from the network; that draws bonds by distance.

    Parameters
    ----------
    frame
        Number of the frame; negative ones count from the end.
    wrap
        Whether molecules are put together and into the cell; False leaves atoms where the trajectory has them.
    width, height
        In pixels.
    """
    try:
        import py3Dmol
    except ImportError as error:
        raise ImportError(
            "turning structures needs py3Dmol, which is not installed: pip install 'openmm-allegro[notebooks]'; "
            "`draw_structure` draws them without it"
        ) from error
    atoms = atoms_of_frame(source, frame, wrap=wrap)
    shown = py3Dmol.view(width=width, height=height)
    shown.addModel(_extended_xyz(atoms), "xyz")
    shown.setStyle({}, BALLS_AND_STICKS)
    if atoms.pbc.any():
        shown.addUnitCell()
    shown.zoomTo()
    return shown


def draw_structure(
    axes: "Axes",
    source: Frames | mdtraj.Trajectory,
    frame: int = -1,
    *,
    wrap: bool = True,
    rotation: str = "-80x,15y,5z",
) -> None:
    """The same in the same colours as a picture, by ASE. rotation: about the axes of the page, in degrees."""
    from ase.visualize.plot import plot_atoms

    plot_atoms(atoms_of_frame(source, frame, wrap=wrap), axes, radii=RADIUS_ON_PAPER, rotation=rotation)
    axes.set_axis_off()


def atoms_of_frame(source: Frames | mdtraj.Trajectory, frame: int = -1, *, wrap: bool = True) -> ase.Atoms:
    """One frame for ASE, positions and cell in Å, periodic if the trajectory has a cell. wrap: see `view`."""
    frames = Frames.of(source)
    if not -frames.n_frames <= frame < frames.n_frames:
        raise ValueError(
            f"`frame` is {frame}, but the trajectory has {frames.n_frames} frames; give one from {-frames.n_frames} "
            f"to {frames.n_frames - 1}"
        )
    number = frame % frames.n_frames
    positions = _positions_nm(frames, number)
    cell = None if frames.cells_nm is None or np.linalg.det(frames.cells_nm[number]) <= 0 else frames.cells_nm[number]
    if wrap and cell is not None:
        positions = _wrapped_nm(frames, positions, cell)
    return ase.Atoms(
        numbers=[atom.element.atomic_number for atom in frames.topology.atoms],
        positions=positions * units.NM_TO_ANGSTROM,
        cell=None if cell is None else cell * units.NM_TO_ANGSTROM,
        pbc=cell is not None,
    )


def _wrapped_nm(frames: Frames, positions_nm: Array, cell_nm: Array) -> Array:
    """Whole molecules with their centres in the cell, (n, 3); of a network without an end each atom for itself."""
    to_fractions = np.linalg.inv(cell_nm)
    molecules = Molecules.of(frames)
    whole = molecules.whole_nm(positions_nm, cell_nm)
    first, second = bonds_of(frames).T
    across = np.abs((whole[first] - whole[second]) @ to_fractions).max(axis=1, initial=0) > 0.5  # (z,)
    endless = np.isin(molecules.molecule, molecules.molecule[first[across]])
    anchors = np.where(endless[:, None], whole, molecules.centres(whole)[molecules.molecule])
    return whole - np.floor(anchors @ to_fractions) @ cell_nm


def _positions_nm(frames: Frames, number: int) -> Array:
    for chunk in frames.chunks():
        if number < chunk.n_frames:
            return chunk.xyz[number].astype(np.float64)
        number -= chunk.n_frames
    raise AssertionError("the chunks hold all frames")


def _extended_xyz(atoms: ase.Atoms) -> str:
    """Symbols and positions [Å], and the lattice vectors where there are any; 3Dmol.js reads no more."""
    lattice = " ".join(f"{component:.6f}" for component in atoms.cell.array.ravel())
    lines = [str(len(atoms)), f'Lattice="{lattice}"' if atoms.pbc.any() else ""]
    lines += [f"{atom.symbol} {atom.x:.3f} {atom.y:.3f} {atom.z:.3f}" for atom in atoms]
    return "\n".join(lines) + "\n"
