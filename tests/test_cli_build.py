"""`openmm-allegro build`: each kind writes its files and says what is in them."""

import ase.io
import pytest
from test_cli import complaint, printed_json

from openmm_allegro.cli import main

KINDS = ("water", "liquid", "crystal", "slab", "stack", "solvated", "openmmtools")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_an_example_and_its_defaults(capfd, kind):
    assert main(["build", kind, "--help"]) == 0
    shown = capfd.readouterr().out
    assert f"openmm-allegro build {kind} " in shown.split("Example")[1]
    assert "[default: " in " ".join(shown.split())


@pytest.mark.parametrize("words", [["build", "--help"], ["build"]])
def test_the_help_names_all_kinds(capfd, words):
    assert main(words) == 0
    shown = capfd.readouterr().out
    assert all(f"  {kind} " in shown for kind in KINDS)


def test_water(capfd, tmp_path):
    words = ["--molecules", 20, "--relax-ps", 0.2]
    made = printed_json(capfd, "build", "water", *words, "--output", tmp_path / "new" / "w.pdb")
    assert made["residues"] == {"HOH": 20}
    assert made["density_g_per_cm3"] == pytest.approx(0.997, rel=1e-3)
    assert len(ase.io.read(made["extxyz"])) == 60


def test_an_electrolyte(capfd, tmp_path):
    pytest.importorskip("rdkit", reason="RDKit, which makes the geometries, is not installed")
    pytest.importorskip("packmol", reason="Packmol is not installed")
    words = ["EC", "EMC", "--parts", "3:7", "--by", "mass", "--salt", "LiPF6", "--molal", 1, "--molecules", 10]
    made = printed_json(capfd, "build", "liquid", *words, "--output", tmp_path / "e.cif")
    assert made["residues"] == {"EMC": 7, "EC": 3, "LI": 1, "PF6": 1}


def test_a_doped_crystal(capfd, tmp_path):
    words = ["llzo-cubic", "--replace", "Zr:Ta:2", "--vacancy", "Li:2", "--r-max", 6, "--output", tmp_path / "c.cif"]
    assert printed_json(capfd, "build", "crystal", *words)["formula"] == "La24Li54O96Ta2Zr14"


def test_a_slab_and_an_interface(capfd, tmp_path):
    lower, water = tmp_path / "slab.cif", tmp_path / "water.cif"
    made = printed_json(capfd, "build", "slab", "li", "--layers", 3, "--repeat", 4, 4, "--output", lower)
    assert made["formula"] == "Li96"
    printed_json(capfd, "build", "water", "--edge-nm", 1.4, "--output", water)
    made = printed_json(capfd, "build", "stack", lower, water, "--output", tmp_path / "both.cif")
    assert made["residues"]["MOL"] == 1
    assert made["residues"]["HOH"] > 80
    assert made["shortest_distance_angstrom"] > 0.9


def test_a_solvated_peptide_from_a_test_system(capfd, tmp_path):
    made = printed_json(capfd, "build", "openmmtools", "AlanineDipeptideVacuum", "--output", tmp_path / "a.pdb")
    assert made["atoms"] == 22
    words = [tmp_path / "a.pdb", "--padding-nm", 0.6, "--relax-ps", 0.02, "--output", tmp_path / "s.cif"]
    made = printed_json(capfd, "build", "solvated", *words)
    assert made["residues"]["ALA"] == 1


@pytest.mark.parametrize("name", ["box.cif", "box.extxyz"])
def test_files_that_are_there_are_kept(capfd, tmp_path, name):
    (tmp_path / name).write_text("frames of somebody")
    said = complaint(capfd, "build", "crystal", "si", "--output", tmp_path / "box.cif")
    assert f"{name}` exists already and is kept as it is; name another output, or remove it first" in said
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(name, "frames of somebody")]


def test_what_is_read_is_not_written(capfd, tmp_path):
    printed_json(capfd, "build", "crystal", "si", "--output", tmp_path / "si.cif")
    said = complaint(capfd, "build", "stack", tmp_path / "si.cif", tmp_path / "si.cif", "--output", tmp_path / "si.cif")
    assert "si.cif` would be written, but it is read, too, and would be lost" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["crystal", "llzo"], "there is no crystal `llzo`"),
        (["crystal", "si", "--vacancy", "Si"], "`--vacancy` is Si; write an element and a number, such as Li:2"),
        (["crystal", "si", "--vacancy", "Si:1.5"], "1.5 is not a whole number"),
        (["crystal", "si", "--replace", "Si:2"], "`--replace` is Si:2; write two elements and a number"),
        (["crystal", "si", "--vacancy", "Si:1", "--vacancy", "Si:1"], "`--vacancy` names Si twice; give the sum"),
        (["crystal", "si", "--replace", "Si:Ge:1", "--replace", "Si:Ge:1"], "`--replace` names Si:Ge twice"),
        (["liquid", "EC", "--parts", "a"], "`--parts` is a, where 'a' is not a number"),
        (["crystal", "si", "--r-max", "5"], "is 0.54 nm wide, less than twice the cutoff of 5 Å"),
        (["water", "--molecules", "9", "--output", "w.gro"], "ends in `.gro`"),
        (["water"], "give either `--molecules` or `--edge-nm`; the density gives the other"),
        (["liquid", "CC#N"], "the density of this liquid is not known here; give `--density`"),
        (["crystal", __file__], "is not called .cif, and a crystal is read from a CIF file"),
        (["wine"], "No such command 'wine'"),
    ],
)
def test_a_mistake_is_one_line(capfd, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in complaint(capfd, "build", *words)
    assert list(tmp_path.iterdir()) == []
