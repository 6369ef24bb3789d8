"""Paths of atoms or molecules, collected frame by frame and read atom by atom.

Symbols used in this file
    f  frames     n  atoms     k  paths
"""

import tempfile
import weakref
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.molecules import Molecules
from openmm_allegro.analysis.selection import atoms_of, check_masses, element_masses
from openmm_allegro.analysis.unwrap import unwrapped_nm

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

BYTES_IN_MEMORY = 2**28
"""Paths of more bytes wait in a temporary file."""
BYTES_OF_A_TILE = 2**25
"""That file is written by tiles of all paths in some frames, in which the frames of a path lie together."""
NUMBERS_AT_ONCE = 2**21
CENTRES = ("atoms", "residues", "molecules")


class Paths:
    """Where atoms, or centres of mass, have moved since the first frame, relative to a common centre of mass.

    Small ones are held in memory, others in a file without a name in the folder for temporary files (`TMPDIR`), which
    vanishes with the object. Kept in single precision: 6·10⁻⁸ of a displacement.
    """

    def __init__(self, selection: str, times_ps: Array, spacing_ps: float, start_nm: Array) -> None:
        """start_nm: positions of the first frame, (k, 3)."""
        self.selection = selection
        self.times_ps = times_ps
        self.spacing_ps = spacing_ps
        self.start_nm = start_nm
        self._shape = (len(times_ps), len(start_nm), 3)
        self._n_appended = 0
        self._in_memory = 4 * np.prod(self._shape) <= BYTES_IN_MEMORY
        self._tile_length = self.n_frames if self._in_memory else max(1, BYTES_OF_A_TILE // (12 * self.n_paths))
        self._tile = np.empty((self._tile_length, self.n_paths, 3), np.float32)  # all frames where in memory
        if not self._in_memory:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the object)
            weakref.finalize(self, self._file.close)

    @property
    def n_frames(self) -> int:
        return self._shape[0]

    @property
    def n_paths(self) -> int:
        return self._shape[1]

    def append(self, positions_nm: Array) -> None:
        """Add the next frame. positions_nm: (k, 3)."""
        place = self._n_appended % self._tile_length
        self._tile[place] = positions_nm - self.start_nm
        self._n_appended += 1
        if not self._in_memory and (place + 1 == self._tile_length or self._n_appended == self.n_frames):
            self._write(self._tile[: place + 1])

    def blocks(self) -> Iterator[Array]:
        """All frames of some paths after all frames of others: displacements [nm], (f, some, 3) float64."""
        assert self._n_appended == self.n_frames
        at_once = max(1, NUMBERS_AT_ONCE // (3 * self.n_frames))
        for first in range(0, self.n_paths, at_once):
            last = min(first + at_once, self.n_paths)
            if self._in_memory:
                yield self._tile[:, first:last].astype(np.float64)
                continue
            block = np.empty((self.n_frames, last - first, 3))
            for begin in range(0, self.n_frames, self._tile_length):
                tile = self._read(begin, first, last)
                block[begin : begin + tile.shape[1]] = tile.transpose(1, 0, 2)
            yield block

    def positions_nm(self, frame: int) -> Array:
        """Positions of one frame, (k, 3), less those of the common centre of mass."""
        if self._in_memory:
            return self.start_nm + self._tile[frame]
        place = frame % self._tile_length
        return self.start_nm + self._read(frame - place, 0, self.n_paths)[:, place]

    def total_nm(self) -> Array:
        """Sum of all displacements, (f, 3)."""
        return np.sum([block.sum(axis=1) for block in self.blocks()], axis=0)

    def _write(self, tile: NDArray[np.float32]) -> None:
        """tile: (frames of the tile, k, 3)."""
        try:
            np.ascontiguousarray(tile.transpose(1, 0, 2)).tofile(self._file)
        except OSError as error:
            raise OSError(
                f"the paths of {self.selection} need {4e-9 * np.prod(self._shape):.2g} GB in a temporary file in "
                f"`{tempfile.gettempdir()}`, which has no room ({error}); name another folder in TMPDIR or read fewer "
                f"frames (`stride`)"
            ) from error

    def _read(self, begin: int, first: int, last: int) -> NDArray[np.float32]:
        """Paths from first to last in the tile that begins with a frame, (last − first, frames of the tile, 3)."""
        length = min(self._tile_length, self.n_frames - begin)
        self._file.seek(12 * (begin * self.n_paths + first * length))
        return np.fromfile(self._file, np.float32, 3 * length * (last - first)).reshape(-1, length, 3)


def collect_paths(
    frames: Frames,
    selections: Sequence[str],
    *,
    centres: str = "atoms",
    relative_to: str = "all",
    unwrapped: bool = True,
) -> list[Paths]:
    """Paths of each selection, in one pass over equally spaced frames.

    centres: follow each of the `atoms`, or the centre of mass of the selected atoms of each of the `residues` or
    `molecules`, as bonds make them, which are guessed where the topology has none. relative_to: selection whose centre
    of mass is held at rest, `none` for positions as they are. unwrapped: follow atoms through the faces of the cell;
    else each frame has them inside its cell, which is needed for distances between atoms: where a cell changes, atoms
    that have left it are not whole cells of another frame away from there.
    """
    if centres not in CENTRES:
        raise ValueError(f"`centres` is `{centres}`; choose from {', '.join(CENTRES)}")
    spacing = frames.spacing_ps()
    topology, masses = frames.topology, element_masses(frames.topology)
    reference = np.zeros(0, dtype=np.int64) if relative_to == "none" else atoms_of(topology, relative_to)
    check_masses(masses[reference], "relative_to", relative_to)
    weights = masses[reference] / masses[reference].sum()
    groups = [_groups(frames, selection, centres) for selection in selections]
    paths: list[Paths] = []
    followed = unwrapped_nm(frames)
    inside = zip(_inside_nm(frames), followed, strict=True)
    for positions, path in ((each, each) for each in followed) if unwrapped else inside:
        shift = weights @ path[reference]
        found = [_centres_of_mass(positions, masses, *group) - shift for group in groups]
        if not paths:
            times = frames.times_ps - frames.times_ps[0]
            paths = [Paths(name, times, spacing, first) for name, first in zip(selections, found, strict=True)]
        for each, centre in zip(paths, found, strict=True):
            each.append(centre)
    return paths


def _inside_nm(frames: Frames) -> Iterator[Array]:
    """Positions of each frame inside its own cell, (n, 3)."""
    cells = frames.cells_for("positions inside a cell")
    for cell, positions in zip(cells, frames.positions_nm(), strict=True):
        yield positions - np.floor(positions @ np.linalg.inv(cell)) @ cell


def _groups(frames: Frames, selection: str, centres: str) -> tuple[Indices, Indices]:
    """Selected atoms sorted by what they belong to (n,), and where each group begins (k,)."""
    atoms = atoms_of(frames.topology, selection)
    if centres == "atoms":
        return atoms, np.arange(len(atoms))
    if centres == "residues" and frames.topology.n_residues == 1:
        raise ValueError(
            f"the topology has one residue, so that `centres` of residues would make a single path of `{selection}`; "
            f"name molecules as residues, or choose `molecules` or `atoms`"
        )
    if centres == "molecules":
        belongs_to = Molecules.of(frames).molecule
    else:
        belongs_to = np.array([atom.residue.index for atom in frames.topology.atoms])
    order = np.argsort(belongs_to[atoms], kind="stable")
    atoms, begins = atoms[order], np.unique(belongs_to[atoms][order], return_index=True)[1]
    if len(begins) < len(atoms):
        lightest = np.add.reduceat(element_masses(frames.topology)[atoms], begins).min(keepdims=True)
        check_masses(lightest, "selection", selection)
    return atoms, begins


def _centres_of_mass(positions: Array, masses: Array, atoms: Indices, begins: Indices) -> Array:
    """positions: (n, 3). Returns (k, 3)."""
    if len(atoms) == len(begins):
        return positions[atoms]
    of_group = np.add.reduceat(masses[atoms], begins)
    return np.add.reduceat(masses[atoms, None] * positions[atoms], begins) / of_group[:, None]
