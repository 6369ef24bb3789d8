"""All analyses in one call, from files to files."""

import csv
import json

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.analyze import analyze_trajectory
from openmm_allegro.analysis.rdf import mean_absolute_difference, radial_distribution

CELL = np.array([[1.6, 0.0, 0.0], [0.2, 1.5, 0.0], [-0.3, 0.1, 1.7]])  # nm


def gas(seed, n_frames=60, cell=CELL):
    random = np.random.default_rng(seed)
    steps = random.normal(scale=0.02, size=(n_frames, 20, 3))
    steps[0] = random.uniform(0, 1, (20, 3)) @ cell
    return atoms(["O"] * 12 + ["H"] * 8, np.cumsum(steps, axis=0), times=10 + 0.5 * np.arange(n_frames), cell=cell)


@pytest.fixture
def files(tmp_path):
    first = gas(1)
    first.save(str(tmp_path / "run.xtc"))
    first[0].save(str(tmp_path / "run.pdb"))
    gas(2, n_frames=20, cell=1.1 * CELL).save(str(tmp_path / "reference.dcd"))
    time = 10 + 0.1 * np.arange(300)
    energy = 0.01 * time + np.random.default_rng(0).normal(size=300)
    lines = [f"{t:.1f},{e}" for t, e in zip(time, energy, strict=True)]
    (tmp_path / "log.csv").write_text("\n".join(['#"Time (ps)","Total Energy (kJ/mole)"', *lines]))
    return tmp_path


def test_every_analysis_gives_its_file_its_panel_and_its_figures(files):
    figures = analyze_trajectory(
        files / "run.xtc",
        files / "run.pdb",
        log=files / "log.csv",
        reference=files / "reference.dcd",
        output_dir=files / "out" / "new",
        start_ps=15.0,
    )
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert (figures["n_atoms"], figures["n_frames"], figures["start_ps"], figures["end_ps"]) == (20, 50, 15.0, 39.5)
    assert set(figures["rdf"]) == {"H-H", "O-H", "O-O"}
    assert set(figures["msd"]) == {"H", "O"}
    assert figures["density"]["mean_g_per_cm3"] == pytest.approx(
        (12 * 15.999 + 8 * 1.008) * 1.66053907e-3 / np.linalg.det(CELL), rel=1e-3
    )
    assert figures["energy"]["drift_error_mev_per_atom_per_ns"] > 0
    written = {path.name for path in (files / "out" / "new").iterdir()}
    tables = {"density.csv", "energy.csv", "msd_H.csv", "msd_O.csv"}
    rdf_tables = {f"rdf_{pair}{what}.csv" for pair in ("H-H", "O-H", "O-O") for what in ("", "_reference")}
    assert written == tables | rdf_tables | {"analysis.png"}
    assert {path.rsplit("/", 1)[-1] for path in figures["files"]} == written


def test_the_difference_to_the_reference_is_that_of_the_written_tables(files):
    figures = analyze_trajectory(
        files / "run.xtc", files / "run.pdb", what=("rdf",), reference=files / "reference.dcd", output_dir=files
    )
    columns = []
    for name in ("rdf_O-O.csv", "rdf_O-O_reference.csv"):
        with open(files / name) as file:
            columns.append(np.array([float(row["g"]) for row in csv.DictReader(file)]))
    assert figures["rdf"]["O-O"]["mean_absolute_difference"] == pytest.approx(
        np.mean(np.abs(columns[0] - columns[1])), rel=1e-6
    )


def test_a_trajectory_equals_itself():
    one = radial_distribution(gas(1), ("O", "H"))
    assert mean_absolute_difference(one, radial_distribution(gas(1), ("O", "H"))) == 0.0


def test_the_log_alone_is_enough(files):
    figures = analyze_trajectory(
        files / "run.xtc", files / "run.pdb", what=(), log=files / "log.csv", output_dir=files / "out"
    )
    assert set(figures) == {"n_atoms", "n_frames", "start_ps", "end_ps", "energy", "files"}


def test_a_density_that_never_changes_is_exact(files):
    figures = analyze_trajectory(files / "run.xtc", files / "run.pdb", what=("density",), output_dir=files / "out")
    assert figures["density"]["error_g_per_cm3"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"what": ("rdf", "vacf")}, "there is no analysis `vacf`; choose from rdf, msd, density"),
        ({"what": ()}, "nothing was asked for"),
        ({"what": ("msd",), "reference": "run.xtc"}, "add `rdf` to the analyses"),
        ({"r_max_nm": 2.0}, "half the shortest height of the cell is 0.7"),
        ({"start_ps": 35.0}, "10 frames in 4 blocks leave 2 a block"),
        ({"start_ps": 50.0}, "no frame at or after 50.0 ps"),
    ],
)
def test_what_cannot_be_done_is_said(files, arguments, words):
    with pytest.raises(ValueError, match=words):
        analyze_trajectory(files / "run.xtc", files / "run.pdb", output_dir=files / "out", **arguments)
