"""What every analysis shares: blocks and errors, tables, pictures."""

import subprocess
import sys

import numpy as np
import pytest
from trajectories import ar1, atoms

from openmm_allegro.analysis.blocks import block_average, block_slices, standard_errors
from openmm_allegro.analysis.density import mass_density
from openmm_allegro.analysis.pictures import save_picture, with_error
from openmm_allegro.analysis.tables import write_table


def ar1_error(n, memory):
    """Exact standard error of the mean of that series: Var = (1/n²) Σ_ij memory**|i−j|."""
    lags = np.arange(1, n)
    return np.sqrt((n + 2 * ((n - lags) * memory**lags).sum()) / n**2)


@pytest.mark.parametrize("memory", [0.0, 0.8, 0.95])
def test_block_error_of_an_ar1_process_is_the_analytic_one(memory):
    n, random = 8192, np.random.default_rng(1)
    found = [block_average(ar1(random, n, memory)) for _ in range(8)]
    assert all(average.converged for average in found)
    # one estimate from ≥ 50 blocks scatters by about 10 %, the mean of eight by 4 %; the finite block is biased by -5 %
    assert np.mean([average.error for average in found]) == pytest.approx(ar1_error(n, memory), rel=0.15)


def test_errors_of_few_values_are_seldom_far_too_small():
    values = np.random.default_rng(0).normal(size=(1000, 10))
    errors = np.array([block_average(each).error for each in values]) * np.sqrt(10)
    assert np.sqrt((errors**2).mean()) == pytest.approx(1.0, abs=0.15)
    assert (errors < 0.3).mean() < 0.03  # of five blocks 0.014, by χ² of four degrees of freedom; of two 0.24


def test_a_series_shorter_than_its_memory_is_not_called_converged():
    assert not block_average(np.linspace(0, 1, 64)).converged


def test_an_error_that_is_too_small_is_warned_of():
    volume = 8 + 0.1 * np.linspace(0, 1, 64)
    cells = np.cbrt(volume)[:, None, None] * np.eye(3)
    with pytest.warns(UserWarning, match="memory of the density, so that the error of its mean is a lower bound"):
        mass_density(atoms("O", np.zeros((64, 1, 3)), cell=cells))
    random = np.random.default_rng(0)
    cells = np.cbrt(random.normal(8, 0.1, 64))[:, None, None] * np.eye(3)
    mass_density(atoms("O", np.zeros((64, 1, 3)), cell=cells))


def test_the_error_of_a_constant_is_zero():
    average = block_average(np.full(16, 2.5))
    assert (average.mean, average.error, average.converged) == (2.5, 0.0, True)


def test_one_value_has_no_error():
    average = block_average(np.array([3.0]))
    assert average.mean == 3.0
    assert np.isnan(average.error)


def test_blocks_leave_the_remainder_out_at_the_start():
    assert block_slices(11, 3) == [slice(2, 5), slice(5, 8), slice(8, 11)]


def test_standard_errors_by_hand():
    assert standard_errors(np.array([[1.0, 0.0], [3.0, 0.0]])) == pytest.approx([1.0, 0.0])  # √2 / √2


@pytest.mark.parametrize(("n", "n_blocks", "words"), [(3, 4, "3 frames cannot be cut into 4"), (3, 0, "must be 1")])
def test_impossible_blocks_are_refused(n, n_blocks, words):
    with pytest.raises(ValueError, match=words):
        block_slices(n, n_blocks)


def test_a_block_average_of_nothing_is_refused():
    with pytest.raises(ValueError, match="needs a series of numbers"):
        block_average(np.array([]))


def test_a_table_is_read_back_and_leaves_no_other_file(tmp_path):
    x, y = np.array([0.1, 1 / 3]), np.array([np.nan, -2e-30])
    write_table(tmp_path / "table.csv", {"x_nm": x, "y": y})
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_text().splitlines()[0] == "x_nm,y"
    found = np.loadtxt(tmp_path / "table.csv", delimiter=",", skiprows=1)
    assert found == pytest.approx(np.stack([x, y], axis=1), rel=1e-9, nan_ok=True)


def test_columns_of_different_length_leave_the_old_table(tmp_path):
    (tmp_path / "table.csv").write_text("old")
    with pytest.raises(ValueError, match="shorter"):
        write_table(tmp_path / "table.csv", {"x": np.zeros(3), "y": np.zeros(2)})
    assert (tmp_path / "table.csv").read_text() == "old"


def test_a_picture_has_the_format_of_its_name(tmp_path):
    path = save_picture(tmp_path / "four.png", [lambda axes: axes.set_title("x")] * 4)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="has no ending"):
        save_picture(tmp_path / "picture", [lambda axes: None])
    with pytest.raises(ValueError, match="nothing to draw"):
        save_picture(tmp_path / "empty.png", [])


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.64, 0.153, "1.64 ± 0.15"),
        (-9.93, 10.2, "-10 ± 10"),
        (0.99322, 0.00161, "0.9932 ± 0.0016"),
        (1.64e-5, 1.53e-6, "(1.64 ± 0.15)·10⁻⁵"),
        (2.5, float("nan"), "2.5"),
        (0.3375, 3.9e-17, "0.3375"),  # a mean of equal numbers
    ],
)
def test_a_number_is_written_to_the_second_digit_of_its_error(value, error, text):
    assert with_error(value, error) == text


def test_analysis_imports_neither_torch_nor_matplotlib():
    code = "import sys, openmm_allegro.analysis.analyze; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
