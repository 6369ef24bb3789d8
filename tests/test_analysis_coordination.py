"""Networks, solvation shells and ion pairs on structures built by hand."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.compare import compare
from openmm_allegro.analysis.ion_pairs import ion_pairs
from openmm_allegro.analysis.network import network_units
from openmm_allegro.analysis.solvation import solvation_shell

CELL = np.array([[4.0, 0.0, 0.0], [1.0, 3.5, 0.0], [-0.5, 0.8, 3.2]])  # nm


def build(*parts, moved=(0.0, 0.0, 0.0), n_frames=2):
    """Parts (elements, positions in nm) in one cell, wrapped into it."""
    elements = [symbol for names, _ in parts for symbol in names.split()]
    positions = np.concatenate([np.asarray(xyz, dtype=float) for _, xyz in parts]) + moved
    positions -= np.floor(positions @ np.linalg.inv(CELL)) @ CELL
    return atoms(elements, np.stack([positions] * n_frames), cell=CELL)


B = 0.2
"""Bond length of the units below, nm."""
PS4 = ("P S S S S", [[0, 0, 0], [B, 0, 0], [-B, 0, 0], [0, B, 0], [0, -B, 0]])
CORNER = (  # P2S7, one S between
    "P P S S S S S S S",
    [[1, 1, 1], [1 + 2 * B, 1, 1], [1 + B, 1, 1]]
    + [[x, 1 + y, 1 + z] for x in (1, 1 + 2 * B) for y, z in ((B, 0), (-B, 0), (0, B))],
)
EDGE = (  # P2S6, two S between
    "P P S S S S S S",
    [[0, 2, 2], [0.28, 2, 2], [0.14, 2.14, 2], [0.14, 1.86, 2]] + [[x, 2, 2 + z] for x in (0, 0.28) for z in (-B, B)],
)
BONDED = (  # P2S6 with a bond between the two P
    "P P S S S S S S",
    [[2, 1, 2.4], [2.22, 1, 2.4]] + [[x, 1 + y, 2.4 + z] for x in (2, 2.22) for y, z in ((B, 0), (-B, 0), (0, B))],
)


@pytest.mark.parametrize("moved", [(0, 0, 0), (0.9, 0.5, -0.7)])  # the units then cross other faces of the cell
def test_units_links_and_connectivity_of_known_anions(moved):
    frames = build(PS4, CORNER, EDGE, BONDED, ("S", [[3, 2, 1]]), moved=moved)
    found = network_units(frames, ("P", "S"), cutoff_nm=0.21, former_cutoff_nm=0.25, n_blocks=2)
    units = {kind: found.units.share(kind).value for kind in found.units.kinds}
    assert units == pytest.approx({"PS4": 1 / 7, "P2S7": 2 / 7, "P2S6": 2 / 7, "P2S6 (P–P)": 2 / 7})
    connectivity = {kind: found.connectivity.share(kind).value for kind in found.connectivity.kinds}
    assert connectivity == pytest.approx({"Q0": 3 / 7, "Q1": 2 / 7, "Q2": 2 / 7})
    links = {kind: found.links.share(kind).value for kind in found.links.kinds}
    assert links == pytest.approx({"corner": 1 / 2, "edge": 1 / 2})
    ligands = {kind: found.ligands.share(kind).value for kind in found.ligands.kinds}
    assert ligands == pytest.approx({"free": 1 / 24, "bridging": 3 / 24, "terminal": 20 / 24})
    coordination = {kind: found.former_coordination.share(kind).value for kind in found.former_coordination.kinds}
    assert coordination == pytest.approx({"4": 5 / 7, "3": 2 / 7})
    assert found.links_per_former == pytest.approx((2 / 7, 0.0))
    assert found.curve().y == pytest.approx([3 / 7, 2 / 7, 2 / 7, 0])


def test_a_former_without_a_bond_is_a_unit_of_its_own():
    found = network_units(build(PS4, ("P", [[2, 2, 2]])), ("P", "S"), cutoff_nm=0.21, n_blocks=1)
    assert {kind: found.units.share(kind).value for kind in found.units.kinds} == {"PS4": 0.5, "P": 0.5}
    assert np.isnan(found.units.error).all()


def test_units_of_two_formers_have_one_formula_in_either_order():
    mixed = [(names.replace("P P", formers), xyz) for formers, (names, xyz) in (("Ge P", CORNER), ("P Ge", EDGE))]
    selection = "element P or element Ge"
    found = network_units(build(*mixed), (selection, "S"), cutoff_nm=0.21, n_blocks=1)
    assert set(found.units.kinds) == {"GePS7", "GePS6"}
    assert found.name == "network_element_P_or_element_Ge-S"


def test_cristobalite_is_one_unit_of_q4_that_shares_corners():
    """The ideal high cristobalite: Si on the diamond lattice of 0.713 nm, O between."""
    a = 0.713
    silicon = np.concatenate([[0, 0, 0] + np.array(f) for f in ((0, 0, 0), (0.25, 0.25, 0.25))]).reshape(2, 3)
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    silicon = (silicon[:, None] + fcc).reshape(-1, 3)
    oxygen = (np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])[:, None] / 8 + fcc).reshape(-1, 3)
    corners = np.array(list(np.ndindex(2, 2, 2)))[:, None]
    xyz = np.concatenate([(silicon + corners).reshape(-1, 3), (oxygen + corners).reshape(-1, 3)]) * a
    frames = atoms(["Si"] * 64 + ["O"] * 128, xyz[None], cell=2 * a * np.eye(3))
    found = network_units(frames, ("Si", "O"), cutoff_nm=0.18, n_blocks=1)
    assert found.units.kinds == ("Si64O128",)
    assert found.connectivity.kinds == ("Q4",)
    assert found.links.kinds == ("corner",)
    assert found.links_per_former.value == 2
    assert found.ligands.kinds == ("bridging",)


def test_networks_with_other_units_are_compared_unit_by_unit():
    (found,) = compare(*([network_units(build(part), ("P", "S"), cutoff_nm=0.25, n_blocks=2)] for part in (PS4, EDGE)))
    values = {name: (each.reference.value, each.predicted.value) for name, each in found.figures.items()}
    assert values["unit_PS4_fraction"] == (1.0, 0.0)
    assert values["unit_P2S6_fraction"] == (0.0, 1.0)
    assert values["connectivity_Q2_fraction"] == (0.0, 1.0)
    assert values["ligand_bridging_fraction"] == (0.0, pytest.approx(1 / 3))
    assert np.isnan(values["link_edge_fraction"][0])  # of no links at all
    assert found.figures["unit_P2S6_fraction"].difference == (1.0, 0.0)


def test_formers_and_ligands_are_apart():
    with pytest.raises(ValueError, match="formers `P` and ligands `element P or element S` have atoms in common"):
        network_units(build(PS4), ("P", "element P or element S"), cutoff_nm=0.21, n_blocks=1)


def test_shells_are_counted_by_composition():
    octahedron = 0.24 * np.concatenate([np.eye(3), -np.eye(3)])
    first = ("Na O O O O O Cl", [[0, 0, 0], *octahedron])
    second = ("Na O O O O", [[2, 2, 2], *(octahedron[:4] + 2)])
    found = solvation_shell(build(first, second), ("Na", "O", "Cl"), cutoff_nm=(0.3, 0.35), n_blocks=2)
    assert {kind: found.compositions.share(kind) for kind in found.compositions.kinds} == {
        "5 O, 1 Cl": (0.5, 0.0),
        "4 O": (0.5, 0.0),
    }
    assert found.coordination == ((4.5, 0.0), (0.5, 0.0))
    assert found.curve().y == pytest.approx([0, 0, 0, 0, 0.5, 0, 0.5, 0])
    alone = solvation_shell(build(first, second), ("Na", "O"), cutoff_nm=0.1, n_blocks=1)
    assert alone.compositions.kinds == ("none",)


def test_a_residue_with_two_donors_counts_once():
    frames = build(("Li O O O", [[1, 1, 1], [1.2, 1, 1], [0.8, 1, 1], [1, 1.2, 1]]))
    table = frames.topology
    residues = [table.add_residue(name, table.chain(0)) for name in ("LI", "GLY", "WAT")]
    for atom, residue in zip(table.atoms, (residues[0], residues[1], residues[1], residues[2]), strict=True):
        atom.residue = residue
    assert solvation_shell(frames, ("Li", "O"), cutoff_nm=0.25, n_blocks=1).coordination[0].value == 3
    assert solvation_shell(frames, ("Li", "O"), cutoff_nm=0.25, by_residue=True, n_blocks=1).coordination[0].value == 2
    with pytest.raises(ValueError, match="the topology has one residue"):
        solvation_shell(build(PS4), ("P", "S"), cutoff_nm=0.25, by_residue=True, n_blocks=1)


def test_the_share_of_a_number_has_the_error_of_a_coin():
    """Every ion has its ligand near with a chance of 0.3, independently: a binomial distribution."""
    random = np.random.default_rng(7)
    near = random.uniform(size=(100, 20)) < 0.3
    positions = np.zeros((100, 40, 3))
    positions[:, :20, 0] = positions[:, 20:, 0] = np.arange(20)
    positions[:, 20:, 1] = np.where(near, 0.2, 0.5)
    found = solvation_shell(atoms(["Li"] * 20 + ["O"] * 20, positions), ("Li", "O"), cutoff_nm=0.3, n_blocks=50)
    exact = np.sqrt(0.3 * 0.7 / 2000)
    share = found.sizes.share("1")
    assert share.value == pytest.approx(near.mean())
    assert share.value == pytest.approx(0.3, abs=4 * exact)
    assert share.error == pytest.approx(exact, rel=0.3)  # fifty blocks: known to 10 %
    assert found.coordination[0] == pytest.approx(share)


def test_a_shell_needs_ligands_and_their_cutoffs():
    with pytest.raises(ValueError, match="a shell of P needs ligands"):
        solvation_shell(build(PS4), ("P",))
    with pytest.raises(ValueError, match="`cutoff_nm` has 2 values for 1 ligands"):
        solvation_shell(build(PS4), ("P", "S"), cutoff_nm=(0.2, 0.3))
    with pytest.raises(ValueError, match="the ligands `S` and `index 1` have atoms in common, which would count twice"):
        solvation_shell(build(PS4), ("P", "S", "index 1"), cutoff_nm=0.3, n_blocks=1)


def test_ions_are_free_separated_in_contact_or_in_aggregates():
    contact = ("Na Cl", [[0, 0, 0], [0.28, 0, 0]])
    chain = ("Na Cl Na", [[2, 1, 1], [2.28, 1, 1], [2.56, 1, 1]])
    separated = ("Na Cl", [[1, 2, 2], [1.5, 2, 2]])
    free = ("Na", [[2.5, 2.5, 2.5]])
    found = ion_pairs(
        build(contact, chain, separated, free, moved=(0.9, 0.6, 0.3)),
        ("Na", "Cl"),
        contact_nm=0.35,
        separated_nm=0.55,
        n_blocks=2,
    )
    states = {state: found.states.share(state).value for state in found.states.kinds}
    expected = {"contact pair": 1 / 5, "aggregate": 2 / 5, "solvent-separated pair": 1 / 5, "free": 1 / 5}
    assert states == pytest.approx(expected)
    clusters = {kind: found.clusters.share(kind).value for kind in found.clusters.kinds}
    assert clusters == pytest.approx({"1 Na, 1 Cl": 2 / 8, "2 Na, 1 Cl": 3 / 8, "1 Na": 2 / 8, "1 Cl": 1 / 8})
    assert found.curve().y == pytest.approx([3 / 8, 2 / 8, 3 / 8, 0])
    assert found.figures()["mean_cluster_of_an_ion"].value == pytest.approx((3 * 1 + 2 * 2 + 3 * 3) / 8)


def test_states_that_never_occur_and_the_mean_cluster_have_errors_where_there_are_blocks():
    xyz = np.array([[[0, 0, 0], [0.28, 0, 0]], [[0, 0, 0], [2.0, 0, 0]]])  # touching, then apart
    found = ion_pairs(atoms(["Na", "Cl"], xyz), ("Na", "Cl"), contact_nm=0.3, separated_nm=0.5, n_blocks=2)
    assert found.figures()["mean_cluster_of_an_ion"] == pytest.approx((1.5, 0.5))
    assert found.figures()["aggregate_fraction"] == (0.0, 0.0)


def test_pairs_of_a_dilute_gas_of_ions_are_those_of_poisson():
    random = np.random.default_rng(9)
    n, n_frames, reach, farther = 15, 200, 0.45, 0.7
    frames = atoms(["Na"] * n + ["Cl"] * n, random.uniform(0, 1, (n_frames, 2 * n, 3)) @ CELL, cell=CELL)
    found = ion_pairs(frames, ("Na", "Cl"), contact_nm=reach, separated_nm=farther, n_blocks=10)
    volume = np.linalg.det(CELL)
    none_within = [(1 - 4 / 3 * np.pi * r**3 / volume) ** n for r in (reach, farther)]
    for state, expected in (("free", none_within[1]), ("solvent-separated pair", none_within[0] - none_within[1])):
        share = found.states.share(state)
        assert share.value == pytest.approx(expected, abs=4.3 * share.error)  # Student's t, 9 degrees of freedom
        assert share.error < 0.02


def test_ion_pairs_refuse_shells_in_the_wrong_order():
    frames = build(("Na Cl", [[0, 0, 0], [0.28, 0, 0]]))
    with pytest.raises(ValueError, match="`separated_nm` is 0.3, below `contact_nm`, 0.4"):
        ion_pairs(frames, ("Na", "Cl"), contact_nm=0.4, separated_nm=0.3)
    with pytest.raises(ValueError, match="have atoms in common"):
        ion_pairs(frames, ("Na", "Na"), contact_nm=0.4, separated_nm=0.5, n_blocks=1)


def test_tables_hold_words_and_numbers(tmp_path):
    frames = build(PS4, CORNER)
    path = network_units(frames, ("P", "S"), cutoff_nm=0.21, n_blocks=2).write_csv(tmp_path / "units.csv")
    lines = path.read_text().splitlines()
    assert lines[0] == "unit,fraction,fraction_error"
    assert lines[1].startswith("P2S7,0.6666666667,")
    salt = build(("Na Cl", [[0, 0, 0], [0.28, 0, 0]]))
    path = ion_pairs(salt, ("Na", "Cl"), contact_nm=0.4, separated_nm=0.5, n_blocks=1).write_csv(tmp_path / "pairs.csv")
    assert path.read_text().splitlines()[1:] == ["cations,contact pair,1,nan", 'ions,"1 Na, 1 Cl",1,nan']
