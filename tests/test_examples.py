"""The quickstart: its data are sound, and its one command makes what it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import mdtraj
import numpy as np
import pytest
from ase.build import bulk
from ase.cluster import Icosahedron

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart"
DATA = QUICKSTART / "data"


@pytest.fixture(scope="module")
def training_frames():
    return ase.io.read(DATA / "train.extxyz.xz", index=":")


@pytest.fixture(scope="module")
def held_out_frames():
    return ase.io.read(DATA / "test.extxyz.xz", index=":")


@pytest.fixture(scope="module")
def reference():
    return mdtraj.load(str(DATA / "reference.xtc"), top=str(DATA / "reference.pdb"))


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """Folder and printed text of `quickstart.py --quick`."""
    folder = tmp_path_factory.mktemp("quickstart")
    done = subprocess.run(
        [sys.executable, QUICKSTART / "quickstart.py", "--quick"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder / "quickstart-output", done.stdout


@pytest.mark.slow
def test_quickstart_draws_its_report(quick_run):
    output, _ = quick_run
    picture = (output / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000  # an empty page has 5 kB


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    ["energy per atom", "forces on H", "g(r) O–O, mean difference", "diffusion of O", "temperature", "energy drift"],
)
def test_quickstart_prints_a_number_for(quick_run, row):
    lines = [line for line in quick_run[1].splitlines() if row in line]
    assert len(lines) == 1
    value = lines[0].split("│")[2].split()[0]
    assert np.isfinite(float(value))


@pytest.mark.slow
def test_quickstart_leaves_a_model_and_two_trajectories(quick_run):
    output, _ = quick_run
    for name in ("training/best.safetensors", "nvt/trajectory.xtc", "nve/trajectory.xtc"):
        assert (output / name).stat().st_size > 0


def test_quickstart_refuses_an_output_folder_that_exists(tmp_path):
    command = [sys.executable, QUICKSTART / "quickstart.py", "--quick", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "exists already and is kept as it is" in done.stderr


def test_shipped_data_are_below_one_megabyte():
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 1_000_000


def test_every_frame_is_whole_water_with_finite_labels(training_frames, held_out_frames):
    for frame in training_frames + held_out_frames:
        assert frame.get_chemical_symbols() == ["O", "H", "H"] * 32
        assert np.isfinite(frame.get_potential_energy())
        assert np.abs(frame.get_forces()).max() < 20  # eV/Å; a colliding pair has hundreds
        bonds = [frame.get_distances(oxygen, [oxygen + 1, oxygen + 2], mic=True) for oxygen in range(0, 96, 3)]
        assert np.max(bonds) < 1.4  # Å


def test_forces_of_a_frame_add_up_to_zero(training_frames, held_out_frames):
    for frame in training_frames + held_out_frames:
        assert np.abs(frame.get_forces().sum(0)).max() < 96 * 0.5e-4 + 1e-9  # each is rounded to 1e-4 eV/Å


def test_energies_rise_by_the_work_done_against_the_forces(training_frames):
    run = [frame for frame in training_frames if frame.info["run"] == "train-350K"]
    positions, forces, energies = (
        np.array([read(frame) for frame in run])
        for read in (lambda f: f.positions, lambda f: f.get_forces(), lambda f: f.get_potential_energy())
    )
    work = -((forces[1:] + forces[:-1]) / 2 * np.diff(positions, axis=0)).sum(axis=(1, 2))
    rise = np.diff(energies)
    # Frames are 10 fs apart, most of an O-H vibration, so the trapezoid is rough; a wrong unit or sign is not.
    assert np.corrcoef(work, rise)[0, 1] > 0.9
    assert np.polyfit(work, rise, 1)[0] == pytest.approx(0.9, abs=0.2)


def test_training_frames_are_not_from_the_reference_run(training_frames, held_out_frames):
    assert {frame.info["run"] for frame in held_out_frames} == {"reference-350K"}
    assert "reference-350K" not in {frame.info["run"] for frame in training_frames}


def test_test_frames_are_frames_of_the_reference_trajectory(held_out_frames, reference):
    for frame in held_out_frames:
        apart = np.abs(10 * reference.xyz - frame.positions).max(axis=(1, 2))
        assert apart.min() < 0.006  # Å; XTC keeps 0.01 Å


def test_reference_trajectory_has_the_stated_density_and_times(reference):
    grams = 32 * 18.015 / 6.02214076e23
    density = grams / (reference.unitcell_volumes * 1e-21)
    np.testing.assert_allclose(density, 0.997, rtol=1e-3)
    np.testing.assert_allclose(np.diff(reference.time), 0.010, atol=1e-4)  # ps


def test_isolated_atoms_are_there_and_water_is_bound(training_frames):
    atoms = {atom.get_chemical_symbols()[0]: atom for atom in ase.io.read(DATA / "isolated_atoms.extxyz", index=":")}
    energies = {symbol: atom.get_potential_energy() for symbol, atom in atoms.items()}
    assert set(energies) == {"H", "O"}
    per_molecule = np.mean([frame.get_potential_energy() / 32 for frame in training_frames])
    binding = per_molecule - energies["O"] - 2 * energies["H"]
    assert binding == pytest.approx(-16.9, abs=0.5)  # eV; tblite gives -16.73 for one molecule in vacuum


def test_labels_are_those_of_gfn1_xtb(held_out_frames):
    tblite = pytest.importorskip("tblite.ase", reason="tblite, which made the data, is not installed")
    frame = held_out_frames[0]
    again = frame.copy()
    again.calc = tblite.TBLite(method="GFN1-xTB", verbosity=0)
    assert again.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=1e-3)
    # positions are rounded to 1e-5 Å, and an O-H bond pulls back with some 50 eV/Å²
    np.testing.assert_allclose(again.get_forces(), frame.get_forces(), atol=2e-3)


def quick_figures(data: Path, example: str, needed: str, output: Path) -> dict:
    """What `--quick` of a case study leaves in figures.json; the picture is there, too."""
    if not (data / needed).is_dir():
        pytest.skip(f"no `{needed}` among the published sets here")
    return quick_output(f"{example}/{example}.py", output, data)[0]


def quick_output(script: str, output: Path, *arguments: Path) -> tuple[dict, list[str]]:
    """What `--quick` of a script leaves in figures.json, and the lines that it prints; the picture is there, too."""
    done = subprocess.run(
        [sys.executable, QUICKSTART.parent / script, *arguments, "--quick", "--output", output],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert (output / "report.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((output / "figures.json").read_text()), done.stdout.splitlines()


@pytest.mark.slow
def test_the_electrolyte_example_leaves_its_report_and_figures(ab_initio_data, tmp_path):
    figures = quick_figures(ab_initio_data, "electrolyte", "lips_83atom", tmp_path / "out")
    assert figures["stable_runs"] == figures["runs"] == 2
    assert figures["lithium"]["diffusion_cm2_per_s"] > 0
    assert figures["structure"]["rdf_Li-S"]["difference_per_cent"] < 25


@pytest.mark.slow
def test_the_water_example_leaves_its_report_and_figures(ab_initio_data, tmp_path):
    figures = quick_figures(ab_initio_data, "liquid_water", "water_rpbed3", tmp_path / "out")
    # 2.837297 kT/(6 π η L) by hand: 300 K, 0.854 mPa s, and 64 molecules at 0.9965 g/cm³ in a cube of 1.2432 nm
    oxygen, viscosity = figures["oxygen"], figures["viscosity_mpa_s"]
    added = oxygen["diffusion_infinite_box_cm2_per_s"] - oxygen["diffusion_cm2_per_s"]
    assert added == pytest.approx(5.873e-6 * 0.854 / viscosity, rel=2e-3)
    assert oxygen["diffusion_infinite_box_cm2_per_s"] * viscosity == pytest.approx(2.41e-5 * 0.854, rel=1e-3)
    # half a minute of training: the liquid stays one, which 0.3 ps cannot make better
    assert 0.8 < figures["density"]["density_g_per_cm3"] < 1.2
    assert figures["structure"]["rdf_O-H"]["first_peak_nm"] == pytest.approx(0.098, abs=0.005)
    # the ab initio frames have the peak that X-rays see, 0.280 nm and 2.57
    assert figures["structure"]["rdf_O-O"]["first_peak_nm_reference"] == pytest.approx(0.281, abs=0.003)
    assert figures["structure"]["rdf_O-O"]["first_peak_g_reference"] == pytest.approx(2.57, abs=0.3)
    # of forces with an RMS of 0.83 eV/Å, after 200 steps
    assert figures["errors"]["fine-tuned"]["forces_mae_mev_per_angstrom"] < 250


@pytest.mark.slow
def test_the_salt_water_example_leaves_its_report_and_figures(ab_initio_data, tmp_path):
    figures = quick_figures(ab_initio_data, "salt_water", "nacl_water_revpbe0d3", tmp_path / "out")
    # half a minute of training, 0.1 ps: near the frames that it began with, and those are of a solution
    assert figures["structure"]["rdf_O-O"]["difference_per_cent"] < 40
    assert figures["structure"]["rdf_Na-O"]["first_peak_nm_reference"] == pytest.approx(0.24, abs=0.01)
    assert 4 < figures["structure"]["solvation_Na-O"]["coordination_O_reference"] < 6.5  # X-rays have 5.5


@pytest.mark.slow
def test_the_ase_example_finds_what_emt_finds(tmp_path):
    figures, lines = quick_output("ase/silver.py", tmp_path / "out")
    for name in figures:
        assert len([line for line in lines if name in line]) == 1
    emt = {name: found["EMT"] for name, found in figures.items()}
    # EMT was made for silver: experiment has 4.07 Å (at 0 K) and a highest frequency of 5.0 THz; it hops with 0.66 eV
    assert emt["lattice constant, Å"] == pytest.approx(4.07, abs=0.02)
    assert emt["highest frequency, THz"] == pytest.approx(5.0, abs=0.5)
    assert emt["barrier of the hop, eV"] == pytest.approx(0.66, abs=0.1)
    # a few seconds of training
    within = {"lattice constant, Å": 0.05, "energy of an atom, eV": 0.05, "barrier of the hop, eV": 0.2}
    for name, tolerance in within.items():
        assert figures[name]["Allegro"] == pytest.approx(emt[name], abs=tolerance)


@pytest.mark.slow
def test_the_mixed_example_leaves_its_report_and_figures(tmp_path):
    pytest.importorskip("openmmml", reason="openmm-ml is not installed")
    figures, _ = quick_output("mixed/mixed.py", tmp_path / "out")
    # openmm-ml adds up the pairs within the peptide without a cutoff, which is at 0.6 nm here
    for end in ("off_force_field_kj_per_mol", "off_model_kj_per_mol"):
        assert abs(figures[end]) < 0.3
    for share in ("0", "0.3", "1"):
        assert abs(figures[f"force_off_difference_at_{share}"]) < 1e-3  # 1e-4 where a pair crosses a cutoff
    # the slope of a free energy falls along a linear path; a model of the force field lets no bond go
    assert figures["du_dlambda_kj_per_mol"][-1] < figures["du_dlambda_kj_per_mol"][0] == 0
    assert not figures["bonds_failed"]
    assert 200 < figures["temperature_k"] < 420


def shares_of_pairs(atoms, bond_angstrom, monkeypatch):
    """What the glass example says of common neighbours: {(atoms, bonds among them): share of pairs}."""
    monkeypatch.syspath_prepend(str(QUICKSTART.parent / "glass"))
    from common_neighbours import pairs_of

    kinds, counts = np.unique(pairs_of(atoms, bond_angstrom), axis=0, return_counts=True)
    return {tuple(kind): count / counts.sum() for kind, count in zip(kinds.tolist(), counts, strict=True)}


def test_common_neighbours_of_close_packed_crystals_are_four_with_two_bonds(monkeypatch):
    cubic = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(3)
    hexagonal = bulk("Co", "hcp", a=2.5, c=2.5 * np.sqrt(8 / 3)).repeat(4)
    for crystal, bond in ((cubic, 3.0), (hexagonal, 3.0)):
        assert shares_of_pairs(crystal, bond, monkeypatch) == {(4, 2): 1.0}


def test_common_neighbours_in_an_icosahedron_are_five_around_the_centre(monkeypatch):
    atoms = Icosahedron("Cu", 2)  # 12 bonds to the centre, whose ends share a ring of five
    # 30 edges, each with two triangles outside and the centre, which is bonded to both tips
    assert shares_of_pairs(atoms, 3.2, monkeypatch) == {(5, 5): 12 / 42, (3, 2): 30 / 42}


@pytest.mark.slow
def test_the_glass_example_melts_and_quenches_with_both_potentials(tmp_path):
    left, lines = quick_output("glass/glass.py", tmp_path / "out")
    figures = left["figures"]
    for name in figures:
        assert len([line for line in lines if name in line]) == 1
    # by hand: 4 atoms of 85.707 u in a cube of 3.85 Å, halfway from copper's 3.615 to silver's 4.086 Å
    assert figures["density, g/cm³"]["crystal"]["value"] == pytest.approx(9.976, rel=0.03)
    assert figures["close-packed pairs, %"]["crystal"]["value"] > 80  # 100 at rest
    assert figures["five-fold pairs, %"]["crystal"]["value"] < 2
    # a tenth of the time is too short to melt: with EMT it stays the crystal, at another moment
    assert figures["close-packed pairs, %"]["EMT"]["value"] > 80
    assert figures["density, g/cm³"]["EMT"]["value"] == pytest.approx(9.8, rel=0.05)
    assert figures["density, g/cm³"]["Allegro"]["value"] == pytest.approx(9.8, rel=0.25)  # seconds of training
