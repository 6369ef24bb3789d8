"""What all analyses of structure have in common: files read in parts, tables, pictures, figures, curves."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from trajectories import atoms

from openmm_allegro.analysis import trajectory_file
from openmm_allegro.analysis.angles import angle_distribution
from openmm_allegro.analysis.bonds import bond_lengths
from openmm_allegro.analysis.hydrogen_bonds import hydrogen_bonds
from openmm_allegro.analysis.ion_pairs import ion_pairs
from openmm_allegro.analysis.network import network_units
from openmm_allegro.analysis.profiles import density_profile
from openmm_allegro.analysis.rdf import radial_distribution
from openmm_allegro.analysis.result import Measured, Result
from openmm_allegro.analysis.solvation import solvation_shell
from openmm_allegro.analysis.structure_factor import partial_structure_factor, structure_factor

ANALYSES = {
    "rdf_O-H": lambda frames: radial_distribution(frames, ("O", "H"), r_max_nm=0.6),
    "angles_H-O-H": lambda frames: angle_distribution(frames, ("H", "O", "H"), cutoff_nm=0.3),
    "bonds_O-H": lambda frames: bond_lengths(frames, ("O", "H"), cutoff_nm=0.3),
    "structure_factor_x-ray": lambda frames: structure_factor(frames, weighting="x-ray", q_max_per_nm=20.0),
    "structure_factor_O-Na": lambda frames: partial_structure_factor(frames, ("O", "Na"), q_max_per_nm=20.0),
    "network_Na-O": lambda frames: network_units(frames, ("Na", "O"), cutoff_nm=0.4),
    "solvation_Na-O-H": lambda frames: solvation_shell(frames, ("Na", "O", "H"), cutoff_nm=0.4),
    "ion_pairs_Na-O": lambda frames: ion_pairs(frames, ("Na", "O"), contact_nm=0.3, separated_nm=0.5),
    "hydrogen_bonds_O-O": lambda frames: hydrogen_bonds(frames, covalent_nm=0.2),
    "profile_mass_2": lambda frames: density_profile(frames, "mass > 2", quantity="mass", centred_on="Na"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve frames of a gas in a tilted cell that grows, in memory and in files."""
    random = np.random.default_rng(0)
    cells = np.linspace(1, 1.1, 12)[:, None, None] * [[1.5, 0.0, 0.0], [0.5, 1.4, 0.0], [-0.4, 0.3, 1.6]]
    gas = atoms(["O"] * 30 + ["H"] * 60 + ["Na"] * 10, random.uniform(0, 1, (12, 100, 3)) @ cells, cell=cells)
    gas.time = np.arange(12.0)
    folder = tmp_path_factory.mktemp("files")
    gas.save(str(folder / "gas.dcd"))
    gas[0].save(str(folder / "gas.pdb"))
    return folder


def read(files):
    return trajectory_file.open_trajectory(files / "gas.dcd", files / "gas.pdb", timestep_ps=1.0)


@pytest.mark.parametrize("name", ANALYSES)
def test_a_file_read_frame_by_frame_gives_what_one_read_at_once_gives(name, files, monkeypatch):
    whole = ANALYSES[name](read(files)).curve()
    monkeypatch.setattr(trajectory_file, "BYTES_OF_A_CHUNK", 5 * 12 * 100)  # chunks of five frames
    frames = read(files)
    assert len(list(frames.chunks())) == 3
    parts = ANALYSES[name](frames).curve()
    assert np.array_equal(parts.x, whole.x)
    assert np.array_equal(parts.y, whole.y)
    assert np.array_equal(parts.error, whole.error, equal_nan=True)


@pytest.mark.parametrize("name", ANALYSES)
def test_every_result_has_a_name_a_table_a_picture_figures_and_a_curve(name, files, tmp_path):
    result: Result = ANALYSES[name](read(files))
    assert result.name == name
    header, *rows = result.write_csv(tmp_path / "table.csv").read_text().splitlines()
    assert "error" in header
    assert rows
    curve = result.curve()
    assert curve.x.shape == curve.y.shape == curve.error.shape
    assert np.all(np.diff(curve.x) > 0)
    assert np.any(curve.error > 0)
    assert all(isinstance(figure, Measured) for figure in result.figures().values())
    assert all(key.replace("-", "_").isidentifier() for key in result.figures())
    for label in (None, "model"):
        axes = Figure().subplots()
        result.draw(axes, label)
        assert axes.get_xlabel()
        assert label is None or axes.get_legend().get_texts()[0].get_text() == "model"
