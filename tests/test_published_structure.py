"""Structure of published ab initio liquids and glasses beside what is known of them; skipped where not at hand."""

from pathlib import Path

import ase
import mdtraj
import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.angles import angle_distribution
from openmm_allegro.analysis.hydrogen_bonds import hydrogen_bonds
from openmm_allegro.analysis.network import network_units
from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.structure_factor import structure_factor
from openmm_allegro.training.data import read_frames


def trajectory_of(path: Path, every: int) -> mdtraj.Trajectory:
    """Frames with the cell turned as OpenMM and mdtraj want it."""
    frames = [ase.Atoms(f.symbols, f.positions, cell=f.cell, pbc=True) for f in read_frames(path)[::every]]
    for frame in frames:
        frame.set_cell(frame.cell.standard_form()[0], scale_atoms=True)
    positions_nm = np.array([frame.positions for frame in frames]) / 10
    cells_nm = np.array([frame.cell.array for frame in frames]) / 10
    return atoms(frames[0].get_chemical_symbols(), positions_nm, np.arange(float(len(frames))), cells_nm)


@pytest.fixture(scope="module")
def water(ab_initio_data):
    return trajectory_of(ab_initio_data / "water_pbe0ts_deepmd" / "water_deepmd.xyz.xz", 8)


def test_liquid_water_has_its_shell_its_bonds_and_its_first_peak(water):
    shell = radial_distribution(water, ("O", "O")).figures()
    # X-rays: 0.280 nm, minimum at 0.345 nm, 4.3 neighbours (L. B. Skinner et al., J. Chem. Phys. 138, 074506 (2013))
    assert shell["first_peak_nm"].value == pytest.approx(0.280, abs=0.008)
    assert shell["first_minimum_nm"].value == pytest.approx(0.345, abs=0.02)
    assert shell["coordination_number"].value == pytest.approx(4.3, abs=0.4)
    # 3.5 to 3.8 in models of water at room temperature (R. Kumar et al., J. Chem. Phys. 126, 204107 (2007))
    assert 3.3 < hydrogen_bonds(water).figures()["bonds_per_atom"].value < 3.9
    heavy = structure_factor(water, isotopes=("2H",), q_max_per_nm=40.0)
    # neutrons on heavy water: main peak at 19 to 20 per nm; the vectors of a box of 1.2 nm are 1 apart there
    assert heavy.figures()["highest_peak_per_nm"].value == pytest.approx(19.5, abs=1.5)


def test_the_anions_of_li7p3s11_are_ps4_and_p2s7(ab_initio_data):
    lips = trajectory_of(ab_initio_data / "lips_83atom" / "lips_val1000.xyz.xz", 50)
    found = network_units(lips, ("P", "S"), former_cutoff_nm=0.25)
    # as many of the one as of the other (H. Yamane et al., Solid State Ionics 178, 1163 (2007))
    assert found.units.share("P2S7").value == pytest.approx(2 / 3)
    assert found.units.share("PS4").value == pytest.approx(1 / 3)
    assert found.links.kinds == ("corner",)
    angle = angle_distribution(lips, ("S", "P", "S"), cutoff_nm=0.27).angles.mean.value
    assert angle == pytest.approx(109.5, abs=1.0)  # four neighbours: the mean is near that of a tetrahedron
