"""Analyses from files to files: of one run, of several, beside a reference."""

import csv
import json

import ase
import ase.io
import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.analyze import analyze_trajectories, compare_trajectories
from openmm_allegro.analysis.asked import results_as_asked
from openmm_allegro.analysis.logs import log_results
from openmm_allegro.analysis.msd import mean_squared_displacement
from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.trajectory_file import open_trajectory

CELL = np.array([[1.6, 0.0, 0.0], [0.2, 1.5, 0.0], [-0.3, 0.1, 1.7]])  # nm
ELEMENTS = ["O"] * 12 + ["H"] * 8


def gas(seed, n_frames=60, cell=CELL):
    random = np.random.default_rng(seed)
    steps = random.normal(scale=0.02, size=(n_frames, 20, 3))
    steps[0] = random.uniform(0, 1, (20, 3)) @ cell
    return atoms(ELEMENTS, np.cumsum(steps, axis=0), times=10 + 0.5 * np.arange(n_frames), cell=cell)


@pytest.fixture
def files(tmp_path):
    for name, seed in (("run", 1), ("again", 3)):
        gas(seed).save(str(tmp_path / f"{name}.xtc"))
    gas(1)[0].save(str(tmp_path / "run.pdb"))
    gas(2, n_frames=20, cell=1.1 * CELL).save(str(tmp_path / "reference.dcd"))
    images = [
        ase.Atoms(ELEMENTS, positions=10 * xyz, cell=10 * CELL, pbc=True)
        for xyz in gas(4, n_frames=20).xyz.astype(float)
    ]
    ase.io.write(tmp_path / "frames.extxyz", images)
    time = 10 + 0.1 * np.arange(300)
    energy = 0.01 * time + np.random.default_rng(0).normal(size=300)
    lines = [f"{t:.1f},{e}" for t, e in zip(time, energy, strict=True)]
    (tmp_path / "log.csv").write_text("\n".join(['#"Time (ps)","Total Energy (kJ/mole)"', *lines]))
    return tmp_path


def test_every_analysis_gives_its_file_its_panel_and_its_figures(files):
    figures = analyze_trajectories(
        [files / "run.xtc"], files / "run.pdb", log=files / "log.csv", output_dir=files / "out" / "new", start_ps=15.0
    )
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert [figures[name] for name in ("n_atoms", "n_runs", "n_frames", "start_ps", "end_ps")] == [
        20,
        1,
        50,
        15.0,
        39.5,
    ]
    assert set(figures["rdf"]) == {"rdf_H-H", "rdf_O-H", "rdf_O-O"}
    assert set(figures["msd"]) == {"msd_H", "msd_O"}
    density = figures["density"]["density"]
    assert density["density_g_per_cm3"] == pytest.approx(
        (12 * 15.999 + 8 * 1.008) * 1.66053907e-3 / np.linalg.det(CELL), rel=1e-3
    )
    assert density["density_g_per_cm3_error"] == pytest.approx(0, abs=1e-6)  # it never changes
    assert figures["log"]["energy"]["drift_mev_per_atom_per_ns_error"] > 0
    written = {path.name for path in (files / "out" / "new").iterdir()}
    tables = {f"{name}.csv" for name in ("density", "energy", "msd_H", "msd_O", "rdf_H-H", "rdf_O-H", "rdf_O-O")}
    assert written == tables | {"analysis.png"}
    assert {path.rsplit("/", 1)[-1] for path in figures["files"]} == written


def test_figures_are_those_of_the_functions(files):
    figures = analyze_trajectories(
        [files / "run.xtc"], files / "run.pdb", what=["msd:element=O:n_blocks=4"], output_dir=files
    )
    frames = open_trajectory(files / "run.xtc", files / "run.pdb")
    value, error = mean_squared_displacement(frames, "O", n_blocks=4).figures()["diffusion_cm2_per_s"]
    assert figures["msd"]["msd_O"]["diffusion_cm2_per_s"] == pytest.approx(value)
    assert figures["msd"]["msd_O"]["diffusion_cm2_per_s_error"] == pytest.approx(error)


def test_errors_of_several_runs_are_over_the_runs(files):
    runs = [files / "run.xtc", files / "again.xtc"]
    figures = analyze_trajectories(runs, files / "run.pdb", what=["msd:element=O"], output_dir=files)
    of_each = [
        mean_squared_displacement(open_trajectory(path, files / "run.pdb"), "O").diffusion_cm2_per_s for path in runs
    ]
    assert figures["n_runs"] == 2
    assert figures["msd"]["msd_O"]["diffusion_cm2_per_s"] == pytest.approx(np.mean(of_each))
    assert figures["msd"]["msd_O"]["diffusion_cm2_per_s_error"] == pytest.approx(np.ptp(of_each) / 2)


def test_results_come_in_the_order_asked_for_and_are_means_over_the_runs(files):
    runs = [open_trajectory(files / name, files / "run.pdb") for name in ("run.xtc", "again.xtc")]
    motion, structure = results_as_asked(["msd:element=O", "rdf:pair=O-O:r_max_nm=0.7"], runs)
    alone = [mean_squared_displacement(each, "O").diffusion_cm2_per_s for each in runs]
    assert motion.figures()["diffusion_cm2_per_s"] == pytest.approx((np.mean(alone), np.ptp(alone) / 2))
    curves = [radial_distribution(each, ("O", "O"), r_max_nm=0.7).g for each in runs]
    assert structure.curve().y == pytest.approx(np.mean(curves, axis=0))


def test_the_log_alone_is_enough(files):
    figures = analyze_trajectories(
        [files / "run.xtc"], files / "run.pdb", what=(), log=files / "log.csv", output_dir=files / "out"
    )
    assert set(figures) == {"n_atoms", "n_runs", "n_frames", "start_ps", "end_ps", "log", "files"}


def test_a_log_gives_what_its_columns_allow(files):
    random = np.random.default_rng(1)
    path, time = files / "npt.csv", 0.1 * np.arange(400)
    names = ["Time (ps)", "Potential Energy (kJ/mole)", "Total Energy (kJ/mole)", "Box Volume (nm^3)"]
    rows = np.stack([time, random.normal(size=400), random.normal(size=400), random.normal(8, 0.05, 400)], axis=1)

    def written(count):
        np.savetxt(path, rows[:, :count], delimiter=",", header=",".join(f'"{n}"' for n in names[:count]), comments="#")
        return path

    assert [each.name for each in log_results(written(4), 20)] == ["energy"]
    assert [each.name for each in log_results(written(4), 20, temperature_k=300.0)] == ["energy", "npt"]
    expansions = [log_results(written(4), 20, 0.0, 300.0, bar)[1].expansion.value for bar in (0.0, 2000.0)]
    kappa = log_results(written(4), 20, temperature_k=300.0)[1].compressibility.value
    assert expansions[1] - expansions[0] == pytest.approx(2000 * kappa / 300)  # P ⟨δV²⟩ / (kT² ⟨V⟩)
    rows[200:, 3] = 8.0  # after a barostat's stage one without
    assert [each.name for each in log_results(written(4), 20, 20.0, temperature_k=300.0)] == ["energy"]
    rows[:, 3] = 8.0
    assert [each.name for each in log_results(written(4), 20, temperature_k=300.0)] == ["energy"]
    with pytest.raises(ValueError, match="`npt.csv` has neither `Total Energy"):
        log_results(written(2), 20)
    with pytest.raises(FileNotFoundError, match="there is no file `.*absent.csv`"):
        log_results(files / "absent.csv", 20)


def test_the_difference_to_a_reference_is_that_of_the_curves(files):
    figures = compare_trajectories(
        files / "reference.dcd",
        [files / "run.xtc"],
        files / "run.pdb",
        what=["rdf:pair=O-O:r_max_nm=0.7"],
        output_dir=files / "out",
    )
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    ours, theirs = (
        radial_distribution(open_trajectory(files / name, files / "run.pdb"), ("O", "O"), r_max_nm=0.7)
        for name in ("run.xtc", "reference.dcd")
    )
    area = np.trapezoid(np.abs(ours.g - theirs.g), ours.r_nm) / np.trapezoid(theirs.g, theirs.r_nm)
    assert figures["rdf"]["rdf_O-O"]["difference_per_cent"] == pytest.approx(100 * area)
    assert {path.name for path in (files / "out").iterdir()} == {"rdf_O-O.csv", "figures.csv", "comparison.png"}
    with (files / "out" / "figures.csv").open() as file:
        assert {row["analysis"] for row in csv.DictReader(file)} == {"rdf_O-O"}


def test_runs_are_compared_with_a_data_set(files):
    figures = compare_trajectories(
        files / "frames.extxyz",
        [files / "run.xtc", files / "again.xtc"],
        files / "run.pdb",
        what=["rdf:r_max_nm=0.7"],
        output_dir=files / "out",
    )
    assert (figures["n_runs"], figures["n_frames"], figures["n_reference_frames"]) == (2, 120, 20)
    assert set(figures["rdf"]) == {"rdf_O-O", "rdf_O-H", "rdf_H-H"}


def test_a_reference_may_have_its_elements_in_another_order(files):
    images = ase.io.read(files / "frames.extxyz", index=":")
    ase.io.write(files / "turned.extxyz", [image[::-1] for image in images])
    found = [
        compare_trajectories(
            files / name,
            [files / "run.xtc"],
            files / "run.pdb",
            what=["rdf:r_max_nm=0.7"],
            output_dir=files / name.partition(".")[0],
        )["rdf"]
        for name in ("frames.extxyz", "turned.extxyz")
    ]
    assert list(found[1]) == ["rdf_O-O", "rdf_O-H", "rdf_H-H"]
    for name, summary in found[0].items():
        assert found[1][name]["difference_per_cent"] == pytest.approx(summary["difference_per_cent"], rel=1e-6)


def test_names_of_the_runs_topology_hold_for_a_data_set_of_the_same_atoms(files):
    arguments = {"what": ["bonds:pair=name O-name H:cutoff_nm=0.5"], "output_dir": files / "out"}
    figures = compare_trajectories(files / "frames.extxyz", [files / "run.xtc"], files / "run.pdb", **arguments)
    assert figures["bonds"]["bonds_name_O-name_H"]["bonds_per_atom_reference"] > 0
    ase.io.write(files / "small.extxyz", ase.Atoms("OH", [[0, 0, 0], [1, 0, 0]], cell=10 * CELL, pbc=True))
    arguments["what"] = ["bonds:pair=O-H:cutoff_nm=0.5"]
    figures = compare_trajectories(files / "small.extxyz", [files / "run.xtc"], files / "run.pdb", **arguments)
    assert figures["bonds"]["bonds_O-H"]["mean_length_nm_reference"] == pytest.approx(0.1, abs=1e-6)
    with pytest.raises(ValueError, match="`small.extxyz` has 2 atoms and `run.pdb` 20"):
        compare_trajectories(
            files / "small.extxyz",
            [files / "run.xtc"],
            files / "run.pdb",
            reference_topology=files / "run.pdb",
            **arguments,
        )


def test_the_run_that_cannot_be_analysed_is_named(files):
    gas(1, n_frames=3).save(str(files / "short.xtc"))
    runs, what = [files / "run.xtc", files / "short.xtc"], ["msd:element=O"]
    with pytest.raises(ValueError, match="`.*short.xtc`: the trajectory has 3 frames, but displacements"):
        analyze_trajectories(runs, files / "run.pdb", what=what, output_dir=files / "out")
    with pytest.raises(ValueError, match="`.*short.xtc`: the trajectory has 3 frames, but displacements"):
        compare_trajectories(runs[1], runs[:1], files / "run.pdb", what=what, output_dir=files / "out")


def test_a_trajectory_does_not_differ_from_itself(files):
    figures = compare_trajectories(
        files / "run.xtc", [files / "run.xtc"], files / "run.pdb", what=["rdf"], output_dir=files / "out"
    )
    assert figures["rdf"]["rdf_O-O"]["difference_per_cent"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"what": ("rdf", "vcaf")}, "there is no analysis `vcaf`; choose from rdf, "),
        ({"what": ()}, "nothing was asked for"),
        ({"what": ("rdf:pair=O-O", "rdf")}, "`rdf_O-O` was asked for twice, which would be one file"),
        ({"what": ("rdf:r_max_nm=2.0",)}, "half the shortest height of the cell is 0.7"),
        ({"start_ps": 50.0}, "no frame at or after 50 ps"),
        ({"pressure_bar": 1000.0}, "the thermal expansion from a `log`, which needs a `temperature_k` too"),
        ({"temperature_k": 300.0}, "`temperature_k` is for what a `log` tells, and there is none"),
    ],
)
def test_what_cannot_be_done_is_said(files, arguments, words):
    with pytest.raises(ValueError, match=words):
        analyze_trajectories([files / "run.xtc"], files / "run.pdb", output_dir=files / "out", **arguments)


def test_a_missing_log_is_named_before_the_long_analyses(files):
    with pytest.raises(FileNotFoundError, match="there is no file `absent.csv`"):
        analyze_trajectories(
            [files / "run.xtc"], files / "run.pdb", what=("rdf:r_max_nm=2.0",), log="absent.csv", output_dir=files
        )


def test_a_reference_needs_an_analysis(files):
    with pytest.raises(ValueError, match="nothing was asked for"):
        compare_trajectories(files / "run.xtc", [files / "run.xtc"], files / "run.pdb", what=(), output_dir=files)


def test_the_run_that_is_warned_of_is_named(files):
    flight = gas(1)
    flight.xyz = flight.xyz[0] + 0.01 * np.arange(60)[:, None, None] * np.random.default_rng(5).normal(size=(20, 3))
    flight.save(str(files / "flight.xtc"))
    runs, what = [files / "run.xtc", files / "flight.xtc"], ["msd:element=O"]
    with pytest.warns(UserWarning, match="`.*flight.xtc`: the motion of O does not become diffusive") as warned:
        analyze_trajectories(runs, files / "run.pdb", what=what, output_dir=files / "out")
    assert len(warned) == 1
