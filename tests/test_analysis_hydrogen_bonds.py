"""Hydrogen bonds of built dimers, of water against MDAnalysis and mdtraj."""

import mdtraj
import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.compare import compare
from openmm_allegro.analysis.hydrogen_bonds import CRITERIA, hydrogen_bonds
from openmm_allegro.analysis.pictures import save_picture


def dimer(distance_nm, angle_degrees, cell=None, moved=0.0):
    """Two waters; the first gives a bond with H–O···O of the given angle."""
    angle, half = np.radians(angle_degrees), np.radians(104.5)
    first = [[0, 0, 0], [0.096 * np.cos(angle), 0.096 * np.sin(angle), 0]]
    first += [[0.096 * np.cos(angle + half), 0.096 * np.sin(angle + half), 0]]
    second = [[distance_nm, 0, 0], [distance_nm + 0.06, 0, 0.075], [distance_nm + 0.06, 0, -0.075]]
    positions = np.array([first + second]) + moved
    if cell is not None:
        positions = positions - np.floor(positions @ np.linalg.inv(cell)) @ cell
    return atoms("OHHOHH", positions, cell=cell)


@pytest.mark.parametrize(
    ("criterion", "distance", "angle", "bonded"),
    [
        ("luzar-chandler", 0.349, 29.0, True),
        ("luzar-chandler", 0.351, 5.0, False),
        ("luzar-chandler", 0.28, 31.0, False),
        ("baker-hubbard", 0.34, 3.0, True),  # H···O 0.244
        ("baker-hubbard", 0.348, 3.0, False),  # H···O 0.252
        ("baker-hubbard", 0.28, 39.5, True),  # O–H···O 122 degrees
        ("baker-hubbard", 0.28, 43.0, False),  # O–H···O 117 degrees
        ("wernet-nilsson", 0.328, 5.0, True),  # up to 0.3289
        ("wernet-nilsson", 0.328, 10.0, False),  # up to 0.3256
        ("wernet-nilsson", 0.29, 30.0, True),  # up to 0.2904
    ],
)
@pytest.mark.parametrize("cell", [None, np.array([[1.2, 0, 0], [0.5, 1.1, 0], [-0.4, 0.5, 1.3]])])
def test_a_dimer_is_bonded_within_the_limits_of_each_criterion(criterion, distance, angle, bonded, cell):
    frames = dimer(distance, angle, cell, moved=0.0 if cell is None else -0.1)
    found = hydrogen_bonds(frames, criterion=criterion, n_blocks=1)
    if not bonded:
        assert found.per_donor.value == 0
        assert found.numbers.kinds == ("0",)
        return
    assert found.per_donor.value == 0.5
    assert found.numbers.kinds == ("1",)
    assert found.distances.mean.value == pytest.approx(distance, abs=1e-6)
    assert found.angles.mean.value == pytest.approx(angle, abs=1e-3)


def test_heavy_water_has_the_bonds_of_water():
    light, heavy = dimer(0.3, 5.0), dimer(0.3, 5.0)
    for k in (1, 5):  # one of each molecule
        heavy.topology.atom(k).element = mdtraj.element.get_by_symbol("D")
    found, expected = (hydrogen_bonds(frames, n_blocks=1).per_donor.value for frames in (heavy, light))
    assert found == expected == 0.5


def test_a_run_without_bonds_is_zero_bonds_beside_one_with_some(tmp_path):
    bonded, none, far = (hydrogen_bonds(dimer(d, 5.0), n_blocks=1) for d in (0.3, 0.38, 3.0))
    assert none.curve() is None
    assert "nan" in none.write_csv(tmp_path / "none.csv").read_text().splitlines()[1]
    with pytest.warns(UserWarning, match="has too few different values for a curve"):
        (found,) = compare([bonded], [far])
    assert found.figures["bonds_per_donor"].predicted.value == 0
    assert found.figures["in_1_bonds_fraction"].difference.value == -1.0
    assert found.figures["in_0_bonds_fraction"].difference.value == 1.0
    save_picture(tmp_path / "none.png", [none.draw, far.draw, found.draw, lambda axes: far.draw(axes, "far")])


def test_donors_without_hydrogen_are_refused():
    with pytest.raises(ValueError, match="none of the 2 donors has a hydrogen within 0.09 nm in the first frame"):
        hydrogen_bonds(dimer(0.3, 5.0), covalent_nm=0.09, n_blocks=1)
    with pytest.raises(ValueError, match="`covalent_nm` is -1.0; a cutoff must be positive"):
        hydrogen_bonds(dimer(0.3, 5.0), covalent_nm=-1.0, n_blocks=1)


@pytest.fixture(scope="module")
def water():
    """Three frames of 216 waters at random orientations on a distorted lattice, names and residues as in a PDB file."""
    random = np.random.default_rng(0)
    cell = np.array([[1.86, 0, 0], [0.3, 1.84, 0], [-0.2, 0.4, 1.8]])
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(216):
        residue = topology.add_residue("HOH", chain)
        oxygen = topology.add_atom("O", mdtraj.element.oxygen, residue)
        for name in ("H1", "H2"):
            topology.add_bond(oxygen, topology.add_atom(name, mdtraj.element.hydrogen, residue))
    sites = np.array(list(np.ndindex(6, 6, 6))) / 6 @ cell
    frames = []
    for _ in range(3):
        oxygens = sites + random.normal(scale=0.03, size=(216, 3))
        turns = np.linalg.qr(random.normal(size=(216, 3, 3)))[0]
        arms = 0.0957 * np.array([[0, 0, 0], [1, 0, 0], [np.cos(1.824), np.sin(1.824), 0]])
        frames.append((oxygens[:, None] + np.einsum("kx,nxy->nky", arms, turns)).reshape(-1, 3))
    positions = np.array(frames)
    positions -= np.floor(positions @ np.linalg.inv(cell)) @ cell
    trajectory = mdtraj.Trajectory(positions, topology)
    trajectory.unitcell_vectors = np.stack([cell] * 3).astype(np.float32)
    return trajectory


def test_water_in_a_tilted_cell_agrees_with_mdanalysis(water, tmp_path):
    from MDAnalysis.lib.distances import calc_angles, capped_distance

    found = hydrogen_bonds(water, criterion="baker-hubbard", n_blocks=1)
    box = np.concatenate([water.unitcell_lengths[0] * 10, water.unitcell_angles[0]]).astype(np.float32)
    oxygens = np.arange(0, 648, 3)
    bonds = 0
    for positions in water.xyz * 10:
        for step in (1, 2):
            hydrogens = oxygens + step
            near = capped_distance(positions[hydrogens], positions[oxygens], 2.5, box=box, return_distances=False)
            near = near[near[:, 0] != near[:, 1]]
            h, acceptor = hydrogens[near[:, 0]], oxygens[near[:, 1]]
            angles = calc_angles(positions[h - step], positions[h], positions[acceptor], box)
            bonds += np.count_nonzero(angles > np.radians(120))
    assert bonds > 100
    assert found.per_donor.value * 3 * 216 == pytest.approx(bonds)
    assert found.figures()["bonds_per_atom"].value == pytest.approx(2 * bonds / 648)


@pytest.mark.parametrize("criterion", ["baker-hubbard", "wernet-nilsson"])
def test_water_agrees_with_mdtraj(water, criterion):
    found = hydrogen_bonds(water, criterion=criterion, n_blocks=1)
    if criterion == "baker-hubbard":
        theirs = sum(len(mdtraj.baker_hubbard(frame, freq=0.5, exclude_water=False)) for frame in water)
    else:
        theirs = sum(len(frame) for frame in mdtraj.wernet_nilsson(water, exclude_water=False))
    assert theirs > 50
    assert found.per_donor.value * 3 * 216 == pytest.approx(theirs)


def test_given_and_taken_bonds_add_up(water):
    found = hydrogen_bonds(water, n_blocks=3)
    mean = sum(int(number) * found.numbers.share(number).value for number in found.numbers.kinds)
    assert mean == pytest.approx(2 * found.per_donor.value)
    assert found.per_donor == found.per_acceptor
    assert found.distances.density.sum() * 0.002 == pytest.approx(1)


def test_a_hydrogen_belongs_to_the_nearest_donor_in_each_frame():
    """A proton that has gone over to the other oxygen gives the bond from there."""
    frames = atoms("OOH", np.array([[[0, 0, 0], [0.25, 0, 0], [0.1, 0, 0]], [[0, 0, 0], [0.25, 0, 0], [0.13, 0, 0]]]))
    found = hydrogen_bonds(frames, covalent_nm=0.16, n_blocks=2)
    assert found.per_donor == (0.5, 0.0)


def test_an_unknown_criterion_is_refused(water):
    with pytest.raises(ValueError, match=f"choose from {', '.join(CRITERIA)}"):
        hydrogen_bonds(water, criterion="geometric")
