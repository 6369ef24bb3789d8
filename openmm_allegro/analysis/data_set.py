"""Data sets of ab initio frames as trajectories: extended XYZ, compressed or not.

Symbols used in this file
    f  frames     n  atoms
"""

import io
from pathlib import Path

import ase.io
import ase.io.extxyz
import mdtraj
import numpy as np

from openmm_allegro import units
from openmm_allegro.xyz_text import check_whole, open_text


def load_data_set(path: Path) -> mdtraj.Trajectory:
    """All frames of a data set, which must hold the same atoms in the same order; its times mean nothing."""
    # all at once: ASE jumps about in a file, and each jump decompresses from the beginning
    with open_text(path) as file:
        text = file.read()
    try:
        images = list(ase.io.iread(io.StringIO(text), ":", format="extxyz"))
        check_whole(io.StringIO(text))
    except (ase.io.extxyz.XYZError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"`{path.name}` is not extended XYZ: {error}") from error
    if not images:
        raise ValueError(f"`{path.name}` has no frames")
    symbols = images[0].get_chemical_symbols()
    if "X" in symbols:
        raise ValueError(
            f"atom {symbols.index('X')} of `{path.name}` is X, which is no element; write chemical symbols, and "
            f"leave out sites that are no atoms"
        )
    for k, image in enumerate(images):
        if image.get_chemical_symbols() != symbols:
            raise ValueError(
                f"frame {k} of `{path.name}` is {image.get_chemical_formula()}, in its order of atoms, and frame 0 is "
                f"{images[0].get_chemical_formula()}; a trajectory has the same atoms in every frame"
            )
        if image.pbc.any() != image.pbc.all() or image.pbc.all() != images[0].pbc.all():
            found, first = (", ".join(np.array(list("abc"))[each.pbc]) or "no axis" for each in (image, images[0]))
            raise ValueError(
                f"frame {k} of `{path.name}` is periodic along {found}, frame 0 along {first}; all frames must be so "
                f"along all three axes or along none, write a slab with a cell that is wide enough and `pbc` of T T T"
            )
    topology = mdtraj.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for number, symbol in enumerate(symbols):
        topology.add_atom(f"{symbol}{number + 1}", mdtraj.element.get_by_symbol(symbol), residue)
    if not images[0].pbc.all():
        return mdtraj.Trajectory([image.positions * units.ANGSTROM_TO_NM for image in images], topology)
    # mdtraj wants a along x and b in the xy plane: the same crystal, turned
    cells = np.array([image.cell.standard_form()[0] for image in images]) * units.ANGSTROM_TO_NM  # (f, 3, 3)
    fractions = np.array([image.cell.scaled_positions(image.positions) for image in images])  # (f, n, 3)
    trajectory = mdtraj.Trajectory(fractions @ cells, topology)
    trajectory.unitcell_vectors = cells.astype(np.float32)
    return trajectory
