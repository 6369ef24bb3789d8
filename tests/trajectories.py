"""Synthetic trajectories and series for the tests of the analyses."""

import mdtraj
import numpy as np


def atoms(elements, xyz, times=None, cell=None):
    """A trajectory of single atoms. xyz: (frames, atoms, 3) nm; cell: (3, 3) or (frames, 3, 3) nm."""
    topology = mdtraj.Topology()
    residue = topology.add_residue("SYS", topology.add_chain())
    for symbol in elements:
        topology.add_atom(symbol, mdtraj.element.get_by_symbol(symbol), residue)
    trajectory = mdtraj.Trajectory(xyz, topology, time=times)
    if cell is not None:
        trajectory.unitcell_vectors = np.broadcast_to(cell, (len(xyz), 3, 3)).astype(np.float32)
    return trajectory


def ar1(random, n, memory):
    """Series of unit variance with correlations memory**k, started in equilibrium; (n,)."""
    kicks = random.normal(size=n) * np.sqrt(1 - memory**2)
    values = np.empty(n)
    values[0] = random.normal()
    for k in range(1, n):
        values[k] = memory * values[k - 1] + kicks[k]
    return values


TILTED = np.array([[2.0, 0.0, 0.0], [0.9, 1.9, 0.0], [-0.8, 0.7, 2.1]])  # nm


def random_walk(n_frames, n_atoms, step_nm, seed=0):
    """Steps of the same variance along each axis, D = step² / (2 dt); (frames, atoms, 3)."""
    steps = np.random.default_rng(seed).normal(scale=step_nm, size=(n_frames, n_atoms, 3))
    return np.cumsum(steps, axis=0)


def wrapped(xyz, cells):
    """Positions inside the cell. cells: (3, 3) or (frames, 3, 3)."""
    fractional = xyz @ np.linalg.inv(cells)
    return (fractional - np.floor(fractional)) @ cells
