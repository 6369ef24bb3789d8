"""Dielectric constant of dipoles that do not see each other, beside mdtraj, and where charges come from."""

import mdtraj
import numpy as np
import openmm
import pytest
from peptides import TRICLINIC, wrapped
from scipy.spatial.transform import Rotation
from trajectories import atoms

from openmm_allegro.analysis.charges import charges_of
from openmm_allegro.analysis.dielectric import dielectric_constant

SPCE = "O=-0.8476 H=0.4238"
WATER_NM = 0.1 * np.array([[0, 0, 0], [1, 0, 0], [np.cos(np.radians(109.47)), np.sin(np.radians(109.47)), 0]])


def free_waters(n_frames, n, cell, seed=0):
    """Waters that turn at random about their oxygens, every atom wrapped into the cell for itself."""
    turns = Rotation.random(n_frames * n, random_state=seed).as_matrix().reshape(n_frames, n, 3, 3)
    oxygens = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)[:n] / 4 @ cell
    positions = (WATER_NM @ turns + oxygens[:, None]).reshape(n_frames, 3 * n, 3)
    return atoms("OHH" * n, wrapped(positions, cell), times=np.arange(float(n_frames)), cell=cell)


def test_free_dipoles_have_the_constant_of_the_langevin_limit():
    n, temperature = 27, 300.0
    found = dielectric_constant(free_waters(4000, n, TRICLINIC), SPCE, temperature_k=temperature, n_blocks=50)
    mu_debye = 2.351  # of SPC/E water (Berendsen, Grigera, Straatsma 1987)
    assert found.dipole_debye.value == pytest.approx(mu_debye, abs=2e-3)
    mu = mu_debye * 3.33564e-30  # C m
    volume = np.linalg.det(TRICLINIC) * 1e-27
    expected = 1 + n * mu**2 / (3 * 8.8541878128e-12 * volume * 1.380649e-23 * temperature)
    # a sum of 4,000 squares of three Gaussians is known to √(2 / 12000) = 1.3 %
    assert found.constant.value - 1 == pytest.approx(expected - 1, rel=0.04)
    assert found.kirkwood.value == pytest.approx(1.0, rel=0.04)
    assert found.kirkwood.error == pytest.approx(0.013, rel=0.3)  # fifty blocks: 10 %
    assert found.running_constant[-1] == pytest.approx(found.constant.value)


def test_the_constant_agrees_with_mdtraj():
    trajectory = free_waters(50, 27, 4.0 * np.eye(3))
    charges = np.array([-0.8476, 0.4238, 0.4238] * 27)
    theirs = mdtraj.Topology()
    chain = theirs.add_chain()
    for _ in range(27):
        residue = theirs.add_residue("HOH", chain)  # mdtraj takes residues for molecules
        for symbol in "OHH":
            theirs.add_atom(symbol, mdtraj.element.get_by_symbol(symbol), residue)
    other = mdtraj.Trajectory(trajectory.xyz, theirs)
    other.unitcell_vectors = trajectory.unitcell_vectors
    expected = mdtraj.geometry.static_dielectric(other, charges, 300.0)
    found = dielectric_constant(trajectory, SPCE, temperature_k=300.0)
    assert found.constant.value == pytest.approx(expected, rel=1e-4)  # mdtraj's single precision


def test_dipoles_in_a_row_have_a_larger_constant_by_their_number():
    # all dipoles turn together: ⟨M²⟩ = n² μ², so the Kirkwood factor is n
    n, frames = 8, 500
    turns = np.repeat(Rotation.random(frames, random_state=1).as_matrix()[:, None], n, axis=1)
    oxygens = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3) * 2.0
    positions = (WATER_NM @ turns + oxygens[:, None]).reshape(frames, 3 * n, 3)
    found = dielectric_constant(atoms("OHH" * n, positions, cell=4 * np.eye(3)), SPCE, temperature_k=300)
    assert found.kirkwood.value == pytest.approx(n, rel=0.02)  # less ⟨M⟩² of 500 frames


def test_ions_and_cut_molecules_are_refused():
    positions = np.concatenate([WATER_NM, [[2.0, 2.0, 2.0]]])[None]
    salt = atoms([*"OHH", "Na"], positions, cell=4 * np.eye(3))
    with pytest.raises(ValueError, match=r"molecule of atom 3 \(SYS0-Na\) has the charge 1 e"):
        dielectric_constant(salt, f"{SPCE} Na=1", temperature_k=300)
    with pytest.raises(ValueError, match="cuts molecules"):
        dielectric_constant(salt, f"{SPCE} Na=1", temperature_k=300, selection="O")
    alone = dielectric_constant(salt, f"{SPCE} Na=1", temperature_k=300, selection="not element Na")
    assert alone.dipole_debye.value == pytest.approx(2.351, abs=2e-3)
    with pytest.raises(ValueError, match="no molecule has a dipole"):
        dielectric_constant(salt, "O=0 H=0 Na=0", temperature_k=300)
    with pytest.raises(ValueError, match="no periodic cell, which a dielectric constant needs"):
        dielectric_constant(atoms("OHH", WATER_NM[None]), SPCE, temperature_k=300)


def test_charges_come_from_a_table_by_name_or_by_index(tmp_path):
    topology = atoms("OHH", WATER_NM[None]).topology
    expected = [-0.8476, 0.4238, 0.4238]
    assert charges_of(topology, SPCE).tolist() == expected
    table = tmp_path / "charges.csv"
    table.write_text("atom,charge_e\nO,-0.8476\nH,0.4238\n")
    assert charges_of(topology, table).tolist() == expected
    table.write_text("atom,charge_e\n2,0.4238\n0,-0.8476\n1,0.4238\n")
    assert charges_of(topology, str(table)).tolist() == expected


def test_charges_come_from_a_system_of_openmm(tmp_path):
    system, force = openmm.System(), openmm.NonbondedForce()
    for charge in (-0.8476, 0.4238, 0.4238):
        system.addParticle(1.0)
        force.addParticle(charge, 0.3, 0.1)
    system.addForce(force)
    path = tmp_path / "system.xml"
    path.write_text(openmm.XmlSerializer.serialize(system))
    topology = atoms("OHH", WATER_NM[None]).topology
    assert charges_of(topology, path).tolist() == [-0.8476, 0.4238, 0.4238]
    with pytest.raises(ValueError, match="charges of 3 atoms, the topology has 1"):
        charges_of(atoms("O", np.zeros((1, 1, 3))).topology, path)
    path.write_text(openmm.XmlSerializer.serialize(openmm.System()))
    with pytest.raises(ValueError, match="has 0 forces of type NonbondedForce"):
        charges_of(topology, path)
    xml = openmm.XmlSerializer.serialize(system)
    for text, words in (
        (xml[:200], r"`system.xml` is no XML \("),
        (xml.replace(' q="', ' charge="'), "a particle without a charge `q` that is a number"),
        (xml.replace('q="-.8476"', 'q="no"'), "a particle without a charge `q` that is a number"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            charges_of(topology, path)


@pytest.mark.parametrize(
    ("charges", "words"),
    [
        ("O=-0.8", r"no charge for atom 1 \(H, element H\)"),
        ("O=-0.8 H=0.4 Cl=1", "has a charge for Cl, which the topology does not have"),
        ("O:-0.8", "not of the form `O=-0.8476 H=0.4238`"),
    ],
)
def test_what_is_wrong_with_charges_is_said(charges, words):
    with pytest.raises(ValueError, match=words):
        charges_of(atoms("OHH", WATER_NM[None]).topology, charges)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("atom,q\nO,1\n", "no columns `atom` and `charge_e`"),
        ("atom,charge_e\nO,one\n", "`charge_e` that is no number"),
        ("atom,charge_e\n0,1\n1,1\n", "charges of 2 atoms up to index 1, but the topology has 3"),
    ],
)
def test_what_is_wrong_with_a_table_of_charges_is_said(tmp_path, text, words):
    (tmp_path / "charges.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        charges_of(atoms("OHH", WATER_NM[None]).topology, tmp_path / "charges.csv")
    with pytest.raises(FileNotFoundError, match="none.csv"):
        charges_of(atoms("OHH", WATER_NM[None]).topology, tmp_path / "none.csv")
