"""Arrhenius' law: exact points, coverage of the intervals, JSON answers."""

import json

import numpy as np
import pytest

from openmm_allegro.analysis.arrhenius import arrhenius, arrhenius_of_files

K = 8.617333262e-5  # eV/K
TEMPERATURES = np.array([500.0, 600.0, 750.0, 1000.0])


def law(temperature, activation=0.25, prefactor=1e-3):
    return prefactor * np.exp(-activation / (K * temperature))


def test_exact_points_give_back_their_law_and_its_value_elsewhere():
    found = arrhenius(TEMPERATURES, law(TEMPERATURES), 0.1 * law(TEMPERATURES))
    assert found.activation_ev.value == pytest.approx(0.25, rel=1e-7)
    assert np.exp(found.log_prefactor) == pytest.approx(1e-3, rel=1e-6)
    assert found.at(300.0)[0] == pytest.approx(law(300.0), rel=1e-6)
    # by hand: errors of 0.1 in ln D, E = −slope over x = 1/kT: 0.1/√Σ(x − x̄)²
    x = 1 / (K * TEMPERATURES)
    assert found.activation_ev.error == pytest.approx(0.1 / np.sqrt(((x - x.mean()) ** 2).sum()), rel=1e-9)


def test_conductivities_are_fitted_times_temperature():
    found = arrhenius(TEMPERATURES, law(TEMPERATURES) / TEMPERATURES, times_temperature=True)
    assert found.activation_ev.value == pytest.approx(0.25, rel=1e-7)
    assert found.at(300.0)[0] == pytest.approx(law(300.0) / 300.0, rel=1e-6)


@pytest.mark.parametrize("with_errors", [True, False])
def test_intervals_cover_the_truth_nineteen_times_in_twenty(with_errors):
    random = np.random.default_rng(5)
    relative = np.array([0.15, 0.1, 0.1, 0.05]) if with_errors else np.full(4, 0.1)
    inside_e, inside_300 = [], []
    for _ in range(600):
        values = law(TEMPERATURES) * np.exp(relative * random.normal(size=4))
        found = arrhenius(TEMPERATURES, values, relative * values if with_errors else None)
        low, high = found.activation_interval_ev()
        inside_e.append(low < 0.25 < high)
        _, low, high = found.at(300.0)
        inside_300.append(low < law(300.0) < high)
    # 0.95 ± 0.009; with errors larger than the scatter allows intervals are widened, never narrowed
    assert 0.925 < np.mean(inside_e) < 0.995
    assert 0.925 < np.mean(inside_300) < 0.995


def test_points_that_scatter_more_than_their_errors_widen_the_interval():
    values = law(TEMPERATURES) * np.array([1.5, 0.7, 1.4, 0.8])
    told, doubted = (arrhenius(TEMPERATURES, values, share * values) for share in (0.5, 0.01))
    assert doubted.reduced_chi2 > 100
    assert told.activation_ev.error == pytest.approx(50 / np.sqrt(doubted.reduced_chi2) * doubted.activation_ev.error)


def test_json_answers_are_read(tmp_path):
    paths, names = [], ("conductivity_s_per_m", "onsager_Li-Li_s_per_m")
    for temperature in TEMPERATURES:
        sigma = float(law(temperature) / temperature)
        figures = {name: sigma for name in names} | {f"{name}_error": sigma / 9 for name in names}
        answer = {"conductivity": {"conductivity_Li": figures}}
        paths.append(tmp_path / f"{temperature:g}.json")
        paths[-1].write_text(json.dumps(answer))
    found, share = (arrhenius_of_files(paths, TEMPERATURES, f"conductivity.conductivity_Li.{name}") for name in names)
    for each in (found, share):
        assert each.activation_ev.value == pytest.approx(0.25, rel=1e-6)  # times T, as conductivities are
    assert found.name == "arrhenius_conductivity_s_per_m"
    assert found.write_csv(tmp_path / "a.csv").read_text().startswith("temperature_k,conductivity_s_per_m,")
    (tmp_path / "cut.json").write_text('{"msd": {')
    with pytest.raises(ValueError, match=r"cut.json` is no JSON .*; write it with `openmm-allegro analyze --json`"):
        arrhenius_of_files([tmp_path / "cut.json", *paths[1:]], TEMPERATURES, "msd.msd_Li.diffusion_cm2_per_s")
    with pytest.raises(ValueError, match="`500.json` has no `msd.msd_Li.d`: at `msd` there is only conductivity"):
        arrhenius_of_files(paths, TEMPERATURES, "msd.msd_Li.d")
    with pytest.raises(ValueError, match="there are 3 files and 4 temperatures"):
        arrhenius_of_files(paths[:3], TEMPERATURES, "x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temperatures_k": [300.0, 400.0, 400.0]}, "there are 2 temperatures; the errors of a line need 3"),
        ({"values": [1.0, -1.0, 1.0]}, "value number 2 is -1; all must be positive"),
        ({"errors": [1.0, 1.0, 0.0]}, "error number 3 is 0"),
        ({"values": [1.0, 1.0]}, "there are 3 temperatures, 2 values"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    with pytest.raises(ValueError, match=words):
        arrhenius(**({"temperatures_k": [300.0, 400.0, 500.0], "values": [1.0, 2.0, 3.0]} | arguments))
