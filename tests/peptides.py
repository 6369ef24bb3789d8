"""Poly-alanine backbones of given torsions, for the tests of the analyses."""

import mdtraj
import numpy as np


def placed(a, b, c, length, angle, torsion):
    """The point at these internal coordinates (nm, degrees) from c, b and a."""
    angle, torsion = np.radians(angle), np.radians(torsion)
    axis = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, axis)
    normal /= np.linalg.norm(normal)
    local = [-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)]
    return c + length * (local[0] * axis + local[1] * np.cross(normal, axis) + local[2] * normal)


def backbone(phi, psi):
    """N, CA, C and O of residues with these torsions in degrees, (4 n, 3) nm; the bonds of Engh and Huber."""
    chain = [np.zeros(3), np.array([0.1458, 0.0, 0.0])]
    chain.append(placed(np.array([0.0, 0.1, 0.0]), *chain, 0.1525, 111.0, phi[0]))
    for k in range(1, len(phi)):
        for torsion, length, angle in (
            (psi[k - 1], 0.1329, 116.6),
            (180.0, 0.1458, 121.7),
            (phi[k], 0.1525, 111.0),
        ):
            chain.append(placed(*chain[-3:], length, angle, torsion))
    atoms = []
    for k in range(len(phi)):
        n, ca, c = chain[3 * k : 3 * k + 3]
        atoms += [n, ca, c, placed(n, ca, c, 0.1231, 120.1, psi[k] + 180.0)]
    return np.array(atoms)


def peptide(frames, cell=None, bonds=True):
    """Poly-alanine without side chains; frames: positions (f, 4 n, 3) in nm."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    before = None
    for number in range(frames.shape[1] // 4):
        residue = topology.add_residue("ALA", chain, resSeq=number + 1)
        n, ca, c, o = (
            topology.add_atom(name, mdtraj.element.get_by_symbol(name[0]), residue) for name in ["N", "CA", "C", "O"]
        )
        if bonds:
            for pair in ((n, ca), (ca, c), (c, o), *([(before, n)] if before else [])):
                topology.add_bond(*pair)
        before = c
    trajectory = mdtraj.Trajectory(frames, topology, time=np.arange(float(len(frames))))
    if cell is not None:
        trajectory.unitcell_vectors = np.broadcast_to(cell, (len(frames), 3, 3)).astype(np.float32)
    return trajectory


def shaken(positions, n_frames, noise_nm, seed=0):
    """Copies with independent noise, turned and moved at random, (f, k, 3)."""
    from scipy.spatial.transform import Rotation

    random = np.random.default_rng(seed)
    turns = Rotation.random(n_frames, random_state=seed).as_matrix()
    noisy = positions + noise_nm * random.normal(size=(n_frames, *positions.shape))
    return noisy @ turns + random.uniform(-5, 5, size=(n_frames, 1, 3))


def wrapped(positions, cell):
    """Every atom for itself into the cell."""
    return positions - np.floor(positions @ np.linalg.inv(cell)) @ cell


TRICLINIC = np.array([[4.0, 0.0, 0.0], [0.8, 4.2, 0.0], [-0.6, 0.9, 4.4]])
HELIX, STRAND = (-57.0, -47.0), (-120.0, 130.0)
