"""Crystals: composition, density, distances and coordination against the literature; draws that keep their distance."""

from collections import Counter

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from conftest import CIF

from openmm_allegro.systems.crystal import charge_of, crystal
from openmm_allegro.systems.crystal_data import CRYSTALS
from openmm_allegro.systems.disorder import CLOSEST, drawn, whole_numbers
from openmm_allegro.systems.files import shortest_distance
from openmm_allegro.systems.slab import slab

FORMULAS = {
    "ag": "Ag4",
    "li": "Li2",
    "si": "Si8",
    "nacl": "Cl4Na4",
    "li3po4-gamma": "Li12O16P4",
    "li3po4-beta": "Li6O8P2",
    "li6ps5cl": "Cl4Li24P4S20",
    "llzo-cubic": "La24Li56O96Zr16",
    "llzo-tetragonal": "La24Li56O96Zr16",
}
# Published densities [g/cm³]: CRC Handbook for elements and NaCl, X-ray densities of the references for the others.
DENSITIES = {
    "ag": 10.50,
    "li": 0.534,
    "si": 2.329,
    "nacl": 2.165,
    "li3po4-gamma": 2.43,
    "li3po4-beta": 2.47,
    "li6ps5cl": 1.86,
    "llzo-cubic": 5.11,
    "llzo-tetragonal": 5.106,
}
# (crystal, centre, neighbour, shortest and longest bond [Å], bonds of each centre); sums of Shannon's ionic radii and
# covalent radii: P-O 1.54, P-S 2.05, Zr-O 2.10, Li-O 1.97, La-O 2.5, Li-S 2.4; the elements from their lattices.
BONDS = [
    ("ag", "Ag", "Ag", 2.88, 2.90, 12),
    ("li", "Li", "Li", 3.03, 3.05, 8),
    ("si", "Si", "Si", 2.34, 2.36, 4),
    ("nacl", "Na", "Cl", 2.81, 2.83, 6),
    ("li3po4-gamma", "P", "O", 1.52, 1.57, 4),
    ("li3po4-gamma", "Li", "O", 1.88, 2.08, 4),
    ("li3po4-beta", "P", "O", 1.52, 1.57, 4),
    ("li3po4-beta", "Li", "O", 1.88, 2.08, 4),
    ("li6ps5cl", "P", "S", 2.02, 2.08, 4),
    ("llzo-cubic", "Zr", "O", 2.08, 2.14, 6),
    ("llzo-cubic", "La", "O", 2.48, 2.62, 8),
    ("llzo-tetragonal", "Zr", "O", 2.08, 2.14, 6),
    ("llzo-tetragonal", "La", "O", 2.44, 2.66, 8),
]


def distances(atoms, centre, neighbour, reach):
    """Index of each centre and distance of each neighbour."""
    first, second, length = neighbor_list("ijd", atoms, reach)
    symbols = np.array(atoms.get_chemical_symbols())
    kept = (symbols[first] == centre) & (symbols[second] == neighbour)
    return first[kept], length[kept]


@pytest.mark.parametrize("name", CRYSTALS)
def test_composition_and_density_are_the_published_ones(name):
    atoms = crystal(name)
    assert atoms.get_chemical_formula() == FORMULAS[name]
    density = atoms.get_masses().sum() / 6.02214076e23 / (atoms.get_volume() * 1e-24)
    assert density == pytest.approx(DENSITIES[name], rel=0.005)  # they are given to three digits
    assert CRYSTALS[name].density == pytest.approx(DENSITIES[name], rel=0.005)


@pytest.mark.parametrize(("name", "centre", "neighbour", "shortest", "longest", "bonds"), BONDS)
def test_bonds_have_their_lengths_and_number(name, centre, neighbour, shortest, longest, bonds):
    first, length = distances(crystal(name), centre, neighbour, longest + 0.15)
    assert length.min() > shortest
    assert length.max() < longest
    assert set(np.bincount(first)[np.unique(first)]) == {bonds}


@pytest.mark.parametrize("name", ["nacl", "li3po4-gamma", "li3po4-beta", "li6ps5cl", "llzo-cubic"])
def test_a_salt_is_neutral_and_nothing_overlaps(name):
    for seed in range(3):
        atoms = crystal(name, seed=seed)
        assert charge_of(atoms) == 0
        assert shortest_distance(atoms) > 1.5  # the shortest bond in any of them is P-O


@pytest.mark.parametrize(("name", "closest"), [("llzo-cubic", CLOSEST), ("li6ps5cl", CLOSEST)])
def test_drawn_lithium_keeps_its_distance_in_a_supercell(name, closest):
    atoms = crystal(name, (2, 1, 1), seed=4)
    assert len(atoms) == 2 * len(crystal(name))
    assert distances(atoms, "Li", "Li", 3.0)[1].min() >= closest
    assert distances(atoms, "Li", "O" if "llzo" in name else "S", 3.0)[1].min() > 1.8


@pytest.mark.parametrize(
    ("name", "supercell", "formula"),
    [("li6ps5cl", (3, 3, 3), "Cl108Li648P108S540"), ("llzo-cubic", (3, 2, 2), "La288Li672O1152Zr192")],
)
def test_rounding_leaves_large_supercells_neutral(name, supercell, formula):
    atoms = crystal(name, supercell)
    assert atoms.get_chemical_formula() == formula
    assert charge_of(atoms) == 0


def test_sulfur_and_chlorine_share_their_sites_as_published():
    atoms = crystal("li6ps5cl", (2, 2, 2), seed=1)
    positions = atoms.get_scaled_positions() * 2 % 1
    symbols = np.array(atoms.get_chemical_symbols())
    at_4d = np.isclose(np.cos(8 * np.pi * positions), 1, atol=1e-6).all(1) & ~np.isclose(
        np.cos(4 * np.pi * positions), 1, atol=1e-6
    ).all(1)
    assert at_4d.sum() == 32
    assert (symbols[at_4d] == "Cl").sum() == round(0.615 * 32)
    assert (symbols == "Cl").sum() == 32


def test_the_seed_decides_a_draw():
    first, again, other = (crystal("llzo-cubic", seed=seed).positions for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)


def test_doping_keeps_the_charge_with_vacancies():
    atoms = crystal("llzo-cubic", replace={("Zr", "Ta"): 4}, vacancies={"Li": 4}, seed=2)
    assert atoms.get_chemical_formula() == "La24Li52O96Ta4Zr12"
    assert charge_of(atoms) == 52 + 24 * 3 + 12 * 4 + 4 * 5 - 96 * 2 == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "li7p3s11"}, "not written down here; give a CIF file of them .*Yamane"),
        ({"name": "llzo"}, "there is no crystal `llzo`; .*known are ag, li, .*llzo-cubic"),
        ({"name": "li", "vacancies": {"Li": 2}, "charged": True}, "nothing is left of Li2 without"),
        ({"name": "no.cif"}, "there is no CIF file `no.cif`"),
        ({"name": "si", "supercell": (1, 0, 1)}, r"`supercell` is \[1, 0, 1\]"),
        ({"name": "nacl", "vacancies": {"Na": 1}}, r"Cl4Na3 has a charge of -1 .*say `charged`"),
        ({"name": "llzo-cubic", "replace": {("Zr", "Ta"): 2}}, r"has a charge of \+2 .*take away 2 more Li"),
        ({"name": "si", "vacancies": {"Ge": 1}}, "1 atoms of Ge are to go, but the crystal has 0: Si8"),
        ({"name": "si", "vacancies": {"Si": 9}}, "9 atoms of Si are to go, but the crystal has 8"),
        ({"name": "si", "replace": {("Si", "Sj"): 1}}, "Sj, which is not a chemical symbol"),
        ({"name": "nacl", "replace": {("Na", "Au"): 1}}, "oxidation state of Au is not known"),
    ],
)
def test_crystals_that_make_no_sense_are_refused(arguments, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        crystal(**arguments)


def test_a_charge_that_is_meant_is_left():
    assert crystal("nacl", vacancies={"Na": 1}, charged=True).get_chemical_formula() == "Cl4Na3"


def test_a_cif_file_is_the_crystal_that_was_written(tmp_path):
    ase.io.write(tmp_path / "si.cif", bulk("Si", "diamond", a=5.431, cubic=True))
    atoms = crystal(tmp_path / "si.cif", (1, 1, 2))
    assert atoms.get_chemical_formula() == "Si16"
    assert shortest_distance(atoms) == pytest.approx(5.431 * np.sqrt(3) / 4, abs=1e-4)


HALF = CIF.format("O1 O 0.0 0.0 0.0 1.0\nLi1 Li 0.5 0.5 0.5 {li}\n{more}")


def test_partial_occupancies_of_a_cif_file_are_drawn(tmp_path):
    (tmp_path / "half.cif").write_text(HALF.format(li=0.5, more="Zr1 Zr 0.5 0.5 0.0 0.75\nTa1 Ta 0.5 0.5 0.0 0.25"))
    assert crystal(tmp_path / "half.cif", (2, 2, 1)).get_chemical_formula() == "Li2O4TaZr3"


@pytest.mark.parametrize(
    ("more", "formula"),
    [
        ("Mn1 Mn3+ 0.5 0.5 0.0 0.5\nMn2 Mn4+ 0.5 0.5 0.0 0.5", "Li2Mn5O5"),
        ("Fe1 Fe2+ 0.5 0.5 0.0 0.4\nFe2 Fe3+ 0.5 0.5 0.0 0.4\nMg1 Mg 0.5 0.5 0.0 0.2", "Fe4Li2MgO5"),
        ("H1 H 0.5 0.5 0.0 0.6\nD1 D 0.5 0.5 0.0 0.4", "H5Li2O5"),
        ("Na1 Na 0.5 0.5 0.0 ?", "Li2Na5O5"),
    ],
)
def test_rows_of_one_element_on_one_site_are_added(tmp_path, more, formula):
    (tmp_path / "mixed.cif").write_text(HALF.format(li=0.4, more=more))
    assert crystal(tmp_path / "mixed.cif", (5, 1, 1), charged=True).get_chemical_formula() == formula


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.4, 0.6)])
def test_elements_on_positions_beside_each_other_keep_their_distance(tmp_path, shares):
    more = f"K1 K 0.6 0.5 0.5 {shares[1]}"  # 0.4 Å from lithium's
    (tmp_path / "split.cif").write_text(HALF.format(li=shares[0], more=more))
    for seed in range(5):
        atoms = crystal(tmp_path / "split.cif", (5, 2, 1), charged=True, seed=seed)
        assert Counter(atoms.get_chemical_symbols())["K"] == round(10 * shares[1])
        assert Counter(atoms.get_chemical_symbols())["Li"] == round(10 * shares[0])
        assert shortest_distance(atoms) > CLOSEST


def test_a_small_cell_that_is_not_neutral_has_the_number_of_its_occupancies():
    grid = np.array([[x, y, z] for x in range(4) for y in range(2) for z in range(2)])
    lattice = ase.Atoms("Li4Ti4O8", 3.0 * grid, cell=[12, 6, 6], pbc=True)
    kinds = np.repeat([0, 1, 2], [4, 4, 8])
    for share, number in ((0.25, 1), (0.3, 1), (0.5, 2)):
        atoms = drawn(lattice, kinds, {0: {"Li": share}, 1: {"Ti": 1.0}, 2: {"O": 1.0}}, np.random.default_rng(0))
        assert Counter(atoms.get_chemical_symbols())["Li"] == number


def test_positions_that_are_neighbours_twice_are_counted_once():
    # in a cell of 3 Å two positions 1.5 Å apart see each other to both sides
    places = np.array([[0, 0, 0], [1.5, 0, 0], [0, 3, 0], [1.5, 3, 0]])
    lattice = ase.Atoms("Li4", places, cell=[3, 6, 6], pbc=True)
    for seed in range(20):
        atoms = drawn(lattice, np.zeros(4, dtype=np.int64), {0: {"Li": 0.5}}, np.random.default_rng(seed))
        assert sorted(atoms.positions[:, 1]) == [0, 3]


def test_positions_too_close_for_the_occupancy_are_refused(tmp_path):
    more = "Li2 Li 0.5 0.5 0.75 0.9"  # 1 Å from the other in a cell of 4 Å
    (tmp_path / "half.cif").write_text(HALF.format(li=0.9, more=more))
    with pytest.raises(ValueError, match="no way was found to put 2 Li on 2 positions with 2.0 Å between them"):
        crystal(tmp_path / "half.cif")


def test_sites_that_cannot_be_resolved_are_refused(tmp_path):
    (tmp_path / "half.cif").write_text(HALF.format(li=0.5, more="Na1 Na 0.5 0.5 0.5 0.25"))
    with pytest.raises(ValueError, match="a site is shared by Li 0.5, Na 0.25 and empty in part"):
        crystal(tmp_path / "half.cif")
    (tmp_path / "half.cif").write_text("data_nothing\n")
    with pytest.raises(ValueError, match="could not be read as the CIF file of a crystal"):
        crystal(tmp_path / "half.cif")


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [([1, 1], 5, [3, 2]), ([3, 7], 10, [3, 7]), ([0.615, 0.385], 4, [2, 2]), ([1, 1, 1], 100, [34, 33, 33])],
)
def test_whole_numbers_add_up(shares, total, expected):
    assert whole_numbers(shares, total) == expected


@pytest.mark.parametrize(
    ("miller", "spacing"), [((1, 0, 0), 5.431 / 4), ((1, 1, 0), 5.431 / 8**0.5), ((1, 1, 1), 5.431 / 48**0.5)]
)
def test_a_slab_has_the_planes_and_the_vacuum_asked_for(miller, spacing):
    # distances of neighbouring planes of the diamond lattice; {111} planes lie in pairs, the nearer ones a/√48 apart
    atoms = slab(crystal("si"), miller, 3, repeat=(2, 1), vacuum_angstrom=12.0)
    heights = np.unique(atoms.positions[:, 2].round(4))
    assert np.diff(heights).min() == pytest.approx(spacing, abs=2e-4)
    assert shortest_distance(atoms) == pytest.approx(2.3517, abs=1e-3)
    assert atoms.pbc.all()
    empty = atoms.cell.volume / np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])) - np.ptp(heights)
    widest = np.diff(heights).max()
    assert 12.0 < empty <= 12.0 + widest + 1e-3  # the vacuum, and what the bulk has between two planes


@pytest.mark.parametrize(("miller", "lowest"), [((2, 2, 0), (1, 1, 0)), ((0, 3, 3), (0, 1, 1)), ((2, 2, 2), (1, 1, 1))])
def test_a_common_divisor_of_the_indices_does_not_change_the_slab(miller, lowest):
    atoms, expected = slab(crystal("nacl"), miller, 2), slab(crystal("nacl"), lowest, 2)
    assert np.allclose(atoms.positions, expected.positions)
    assert np.allclose(atoms.cell, expected.cell)


@pytest.mark.parametrize("miller", [(0, 0, 1), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1), (-1, -1, 1), (0, 1, -1)])
def test_opposite_indices_give_opposite_faces(miller):
    """Three arms from one atom in a triclinic cell: their heights say what is up, their product is no mirror's."""
    cell = np.array([[7.0, 0.0, 0.0], [1.0, 6.5, 0.0], [-0.8, 1.2, 7.5]])
    arms = 0.3 * np.array([[1, 0.2, 0], [-0.3, 0.9, 0.2], [0.1, -0.2, 0.8]])
    places = np.array([0.37, 0.46, 0.29]) @ cell + np.vstack([np.zeros(3), arms])
    marked = ase.Atoms(["He", "Ne", "Ar", "Kr"], places, cell=cell, pbc=True)
    for sign in (1, -1):
        up = sign * np.array(miller) @ marked.cell.reciprocal()
        atoms = slab(marked, tuple(sign * index for index in miller), 2)
        symbols = np.array(atoms.get_chemical_symbols())
        for centre in atoms.positions[symbols == "He"]:
            away = [atoms.positions[symbols == symbol] - centre for symbol in ("Ne", "Ar", "Kr")]
            vectors = [find_mic(each, atoms.cell)[0] for each in away]
            found = np.array([each[np.linalg.norm(each, axis=1).argmin()] for each in vectors])
            assert found[:, 2] == pytest.approx(arms @ up / np.linalg.norm(up), abs=1e-6)
            assert np.linalg.det(found) == pytest.approx(np.linalg.det(arms), abs=1e-6)
        assert np.linalg.det(atoms.cell) > 0


def test_slabs_without_a_vacuum_are_refused_where_their_images_would_meet():
    assert shortest_distance(slab(crystal("li"), (1, 0, 0), 2, vacuum_angstrom=0)) == pytest.approx(3.039, abs=1e-2)
    with pytest.raises(ValueError, match=r"with a vacuum of 0 Å atoms come as close as 1.0\d Å to those of the next"):
        slab(crystal("li"), (1, 1, 1), 2, vacuum_angstrom=0)


def test_rounding_does_not_divide_a_layer_between_both_faces_of_a_slab():
    # two double layers of four atoms each, a/(4√3) and 3a/(4√3) apart; one of four was left on the other face
    heights = slab(crystal("si"), (1, 1, 1), 2).positions[:, 2]
    assert sorted(Counter(np.round(heights - heights.min(), 3)).values()) == [4, 4, 4, 4]
    assert np.ptp(heights) == pytest.approx(5.431 * 7 / (4 * 3**0.5), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((0, 0, 0), 1), "`miller` is 0 0 0, which is no face"),
        (((1, 0, 0), 0), "`layers` is 0"),
    ],
)
def test_slabs_that_make_no_sense_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        slab(crystal("si"), *arguments)
    with pytest.raises(ValueError, match="`vacuum_angstrom` is -1"):
        slab(crystal("si"), (1, 0, 0), 1, vacuum_angstrom=-1)
