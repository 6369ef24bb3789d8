"""Differences of curves and numbers by hand."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.special import erfc

from openmm_allegro.analysis.common_points import at_points, common_points
from openmm_allegro.analysis.compare import compare, write_comparisons
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.runs import RunsTogether
from openmm_allegro.analysis.series import Series
from openmm_allegro.analysis.shares import Shares
from openmm_allegro.analysis.solvation import SolvationShell


@dataclass(frozen=True)
class Gaussian:
    """A result made by hand: a peak of unit area at `centre`, and its place."""

    centre: float
    x: np.ndarray
    error: float = 0.02
    name: str = "peak"
    y_label: str = "g(r)"

    def write_csv(self, path):
        raise NotImplementedError

    def draw(self, axes, label=None):
        raise NotImplementedError

    def figures(self):
        return {"peak_nm": Measured(self.centre, self.error)}

    def curve(self):
        y = np.exp(-((self.x - self.centre) ** 2) / 2) / np.sqrt(2 * np.pi)
        return Curve(self.x, y, np.full(len(y), self.error), "r / nm", self.y_label)


@dataclass(frozen=True)
class Number(Gaussian):
    def curve(self):
        return None


WIDE = np.linspace(-8.0, 8.0, 1601)


def test_shifted_gaussians_differ_by_the_overlap_integral():
    # ∫|N(0,1) − N(d,1)| = 2 erf(d / (2√2)), so the share of ∫N = 1 is that
    shift = 0.7
    (found,) = compare([Gaussian(0.0, WIDE)], [Gaussian(shift, WIDE)])
    expected = 2 * (1 - erfc(shift / (2 * np.sqrt(2))))
    assert found.curve.per_cent == pytest.approx(100 * expected, rel=1e-4)
    assert found.curve.mean_absolute == pytest.approx(expected / 16, rel=1e-4)
    assert found.curve.expected_from_errors == pytest.approx(np.sqrt(2 / np.pi) * 0.02 * np.sqrt(2), rel=1e-6)


def test_noise_alone_gives_the_difference_that_its_errors_tell():
    @dataclass(frozen=True)
    class Noise(Gaussian):
        def curve(self):
            y = self.error * np.random.default_rng(int(self.centre)).normal(size=len(self.x))
            return super().curve()._replace(y=y)

    (found,) = compare([Noise(0.0, WIDE)], [Noise(1.0, WIDE, error=0.05)])
    assert found.curve.mean_absolute == pytest.approx(found.curve.expected_from_errors, rel=0.06)  # 3 · 0.76 / √1601


def test_curves_are_compared_on_the_points_of_the_reference_within_both():
    reference, predicted = Gaussian(0.0, np.linspace(-3, 3, 61)), Gaussian(0.0, np.linspace(-1, 6, 701))
    (found,) = compare([reference], [predicted])
    assert found.curve.reference.x == pytest.approx(np.linspace(-1, 3, 41))
    # linear interpolation on steps of 0.01 errs by at most h²/8 |y''| = 5e-6
    assert np.abs(found.curve.difference).max() < 5e-6


def test_distributions_are_compared_over_the_range_of_either():
    def lengths(low, high):
        values = np.random.default_rng(0).uniform(low, high, 20000)
        return Series("gyration", "radius", "radius_nm", "nm", np.arange(20000.0), values)

    # all of both differs: ∫|a − b| = 2 ∫a; half of both: ∫|a − b| = ∫a. Bins of 500 values, 4 %
    (apart,) = compare([lengths(1.0, 1.2)], [lengths(1.5, 1.7)])
    assert apart.curve.per_cent == pytest.approx(200.0, abs=1.0)
    (half,) = compare([lengths(1.0, 1.2)], [lengths(1.1, 1.3)])
    assert half.curve.per_cent == pytest.approx(100.0, abs=8.0)
    assert half.curve.reference.x[-1] > 1.29


def test_the_distribution_of_a_course_ends_with_its_largest_value():
    curve = Series("gyration", "radius", "radius_nm", "nm", np.arange(5.0), np.arange(1.0, 6.0)).curve()
    assert curve.y[[0, -1]].tolist() == [0.0, 0.0]  # as `outside` says
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(1.0)


def test_fractions_of_numbers_that_one_never_has_are_zero_there():
    counted = [Counter({"1": 5, "5": 5}), Counter({"1": 10})]
    curves = [Shares.of([sizes, sizes]).by_number(1, "ions", "fraction") for sizes in counted]
    assert curves[1].x.tolist() == [1, 2]
    x = common_points(curves)
    assert x.tolist() == [1, 2, 3, 4, 5, 6]
    found = [at_points(curve, x) for curve in curves]
    assert [curve.y.tolist() for curve in found] == [[0.5, 0, 0, 0, 0.5, 0], [1, 0, 0, 0, 0, 0]]
    assert all((curve.error == 0).all() for curve in found)  # of two equal blocks
    assert np.isnan(Shares.of([Counter({"1": 3})]).by_number(1, "ions", "fraction").error).all()


def solvation(*blocks):
    shells = Shares.of([Counter(block) for block in blocks])
    return SolvationShell("Na", ("O",), shells, Shares.of([Counter({"4": 1})]), (Measured(4.0),), (0.3,))


def test_shells_have_their_own_share_in_both_though_they_are_not_the_most_frequent():
    # the sixth of the reference is the first of the predicted trajectory, which never has the seventh
    often = {f"{n} O": 16 - 2 * n for n in range(1, 6)}
    reference = solvation(often | {"6 O": 1, "7 O": 2}, often | {"6 O": 2, "7 O": 1})
    (found,) = compare([reference], [solvation({"6 O": 8, "1 O": 2}, {"6 O": 9, "1 O": 1})])
    assert "shell_6_O_fraction" not in reference.figures()
    assert found.figures["shell_6_O_fraction"].reference == pytest.approx((3 / 106, 1 / 106))  # 1/53 and 2/53
    assert found.figures["shell_6_O_fraction"].predicted == pytest.approx((0.85, 0.05))
    assert found.figures["shell_2_O_fraction"].predicted == (0.0, 0.0)
    assert "shell_7_O_fraction" not in found.figures
    runs = RunsTogether((solvation({"6 O": 1}), solvation({"1 O": 1})))
    assert runs.figures()["shell_6_O_fraction"] == pytest.approx((0.5, 0.5))
    (together,) = compare([reference], [runs])
    assert together.figures["shell_2_O_fraction"].predicted == (0.0, 0.0)
    assert together.figures["shell_1_O_fraction"].predicted == pytest.approx((0.5, 0.5))


def test_shares_of_what_never_was_are_zero_and_of_nothing_unknown():
    links = Shares.of([Counter(), Counter({"corner": 3, "edge": 1}), Counter({"corner": 1, "edge": 3})])
    assert links.share("corner") == pytest.approx((0.5, 0.25))  # of the blocks that have links
    assert links.share("face") == (0.0, 0.0)
    assert np.isnan(Shares.of([Counter({"corner": 1})]).share("face").error)
    assert np.isnan(Shares.of([Counter(), Counter()]).share("corner").value)


def test_where_one_has_no_curve_its_numbers_are_compared_aloud():
    for reference, predicted, which in ((Gaussian, Number, "predicted trajectory"), (Number, Gaussian, "reference")):
        with pytest.warns(UserWarning, match=f"`peak` of the {which} has too few different values for a curve"):
            (found,) = compare([reference(0.0, WIDE)], [predicted(1.0, WIDE)])
        assert found.curve is None
        assert found.figures["peak_nm"].difference.value == 1.0


def test_curves_of_one_point_are_compared_there(tmp_path):
    (found,) = compare([Gaussian(0.0, np.zeros(1))], [Gaussian(1.0, np.zeros(1))])
    assert found.curve.per_cent == pytest.approx(100 * (1 - np.exp(-0.5)))
    save_picture(tmp_path / "one.png", [found.draw])


def test_the_difference_of_infinite_numbers_is_unknown():
    (found,) = compare([Number(np.inf, WIDE)], [Number(np.inf, WIDE)])
    assert np.isnan(found.figures["peak_nm"].difference).all()


def test_numbers_have_combined_errors_and_z():
    (found,) = compare([Number(1.0, WIDE, error=0.3)], [Number(2.0, WIDE, error=0.4)])
    figure = found.figures["peak_nm"]
    assert figure.difference == pytest.approx((1.0, 0.5))
    assert figure.z == pytest.approx(2.0)
    assert found.curve is None
    summary = found.summary()
    assert summary["peak_nm_difference"] == 1.0
    assert summary["peak_nm_z"] == pytest.approx(2.0)


def test_numbers_without_error_or_counterpart_have_no_z():
    @dataclass(frozen=True)
    class More(Number):
        def figures(self):
            return super().figures() | {"minimum_nm": Measured(0.3, 0.1)}

    (found,) = compare([Number(1.0, WIDE, error=float("nan"))], [More(2.0, WIDE)])
    assert np.isnan(found.figures["peak_nm"].z)
    assert np.isnan(found.figures["minimum_nm"].reference.value)
    assert np.isnan(found.figures["minimum_nm"].z)
    (same,) = compare([Number(1.0, WIDE, error=0.0)], [Number(1.0, WIDE, error=0.0)])
    assert np.isnan(same.figures["peak_nm"].z)
    (rounded,) = compare([Number(0.1, WIDE, error=4e-17)], [Number(0.1 + 1e-16, WIDE, error=0.0)])
    assert np.isnan(rounded.figures["peak_nm"].z)


@pytest.mark.parametrize(
    ("reference", "predicted", "words"),
    [
        ([Gaussian(0, WIDE)], [], "`peak` was analysed for the reference only"),
        ([], [Gaussian(0, WIDE)], "`peak` was analysed for the predicted trajectory only"),
        ([], [], "nothing to compare"),
        (2 * [Gaussian(0, WIDE)], [Gaussian(0, WIDE)], "two analyses `peak` of the reference trajectory"),
        ([Gaussian(0, WIDE)], [Gaussian(0, WIDE, y_label="n(r)")], r"has `g\(r\)`, that of the predicted .* `n\(r\)`"),
        ([Gaussian(0, WIDE)], [Gaussian(0, WIDE + 20)], "fewer than two points in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference, predicted, words):
    with pytest.raises(ValueError, match=words):
        compare(reference, predicted)


def test_tables_hold_both_curves_and_all_numbers(tmp_path):
    found = compare(
        [Gaussian(0.0, WIDE), Number(1.0, WIDE, name="n")], [Gaussian(0.5, WIDE), Number(1.5, WIDE, name="n")]
    )
    lines = found[0].write_csv(tmp_path / "c.csv").read_text().splitlines()
    assert (
        lines[0] == "r / nm,reference g(r),reference error,predicted g(r),predicted error,difference,difference error"
    )
    assert len(lines) == 1602
    lines = write_comparisons(found, tmp_path / "f.csv").read_text().splitlines()
    assert lines[0].startswith("analysis,figure,reference,reference_error,predicted,")
    assert lines[2] == "n,peak_nm,1,0.02,1.5,0.02,0.5,0.02828427125,17.67766953"
    assert found[1].write_csv(tmp_path / "n.csv").read_text().splitlines()[1] == lines[2]


def test_pictures_of_curves_and_of_numbers_are_drawn(tmp_path):
    reference = [Gaussian(0.0, WIDE), Number(1.0, WIDE, name="n")]
    predicted = [replace(each, centre=each.centre + 0.05) for each in reference]
    path = save_picture(tmp_path / "c.png", [each.draw for each in compare(reference, predicted)])
    assert path.stat().st_size > 10_000
