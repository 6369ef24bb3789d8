"""Viscosity from stress that decays exponentially, whose integral is known."""

import numpy as np
import pytest
from scipy.signal import lfilter

from openmm_allegro.analysis.viscosity import shear_viscosity

VOLUME, TEMPERATURE, MEMORY_PS, DT, ROOT = 10.0, 300.0, 0.5, 0.02, 500.0
EXACT = VOLUME * 1e-27 / (1.380649e-23 * TEMPERATURE) * (ROOT * 1e5) ** 2 * MEMORY_PS * 1e-12 * 1e3  # mPa s


def ornstein_uhlenbeck(random, n, count):
    """Series of unit variance that forget with MEMORY_PS, (n, count)."""
    memory = np.exp(-DT / MEMORY_PS)
    kicks = random.normal(size=(n, count))
    kicks[1:] *= np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], kicks, axis=0)


def write_log(path, n=20_000, seed=0, volume=True):
    """Isotropic stress: xy, xz, yz and the halved differences of diagonals have the same variance; pressure beside."""
    random = np.random.default_rng(seed)
    stress = ROOT * ornstein_uhlenbeck(random, n, 6)
    pressure = 1000.0 + 300.0 * ornstein_uhlenbeck(random, n, 1)
    diagonal = np.sqrt(2) * stress[:, :3] + pressure  # var (Pxx − Pyy)/2 = ROOT²
    columns = {"Step": np.arange(n), "Time (ps)": DT * np.arange(n)}
    names = ("Pxx", "Pyy", "Pzz", "Pxy", "Pxz", "Pyz")
    columns |= {f"{name} (bar)": series for name, series in zip(names, np.c_[diagonal, stress[:, 3:]].T, strict=True)}
    if volume:
        columns["Box Volume (nm^3)"] = np.full(n, VOLUME)
    header = "#" + ",".join(f'"{name}"' for name in columns)
    np.savetxt(path, np.stack(list(columns.values()), axis=1), "%.8g", ",", header=header, comments="")
    return path


def test_stress_that_forgets_exponentially_has_v_s2_tau_over_kt(tmp_path):
    values, pulls = [], []
    for seed in range(8):
        found = shear_viscosity(write_log(tmp_path / "p.csv", seed=seed), TEMPERATURE, longest_ps=3.0)
        values.append(found.viscosity_mpa_s.value)
        pulls.append((found.viscosity_mpa_s.value - EXACT) / found.viscosity_mpa_s.error)
    # 5 components of 400 ps, integrated to some ps: √(2 x 3/400/5) = 5 % for one, 2 % for the mean; the fit adds 2 %
    assert np.mean(values) == pytest.approx(EXACT, rel=0.08)
    assert np.std(values) < 0.15 * EXACT
    assert np.median(np.abs(pulls)) < 2.0


def test_the_running_integral_is_one_less_an_exponential(tmp_path):
    found = shear_viscosity(write_log(tmp_path / "p.csv"), TEMPERATURE, longest_ps=4.0)
    early = (found.lag_ps > 0.1) & (found.lag_ps < 1.0)
    exact = EXACT * (1 - np.exp(-found.lag_ps / MEMORY_PS))
    assert found.running_mpa_s[early] == pytest.approx(exact[early], rel=0.1)  # variance of 400 ps: 3 %, and the slope


def test_the_volume_may_be_given(tmp_path):
    path = write_log(tmp_path / "p.csv", volume=False)
    with pytest.raises(ValueError, match=r"has no column `Box Volume \(nm\^3\)`, .*or give `volume_nm3`"):
        shear_viscosity(path, TEMPERATURE)
    once, twice = (shear_viscosity(path, TEMPERATURE, volume_nm3=v).viscosity_mpa_s.value for v in (VOLUME, 2 * VOLUME))
    assert twice == pytest.approx(2 * once, rel=1e-4)  # of the fit


def test_bad_logs_are_named(tmp_path):
    path = tmp_path / "p.csv"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        shear_viscosity(path, TEMPERATURE)
    path.write_text('#"Time (ps)","Pxx (bar)"\n0.0,1.0\n')
    with pytest.raises(ValueError, match=r"no column `Pyy \(bar\)`, only Time \(ps\), Pxx \(bar\)"):
        shear_viscosity(path, TEMPERATURE, volume_nm3=1.0)
    lines = write_log(path, n=100).read_text().splitlines()
    path.write_text("\n".join([*lines[:50], "bad", *lines[50:]]))
    with pytest.raises(ValueError, match="is not 9 numbers"):
        shear_viscosity(path, TEMPERATURE)
    path.write_text("\n".join(lines[:50] + lines[60:]))
    with pytest.raises(ValueError, match="not equally spaced in time"):
        shear_viscosity(path, TEMPERATURE)
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="it takes at least 8"):
        shear_viscosity(path, TEMPERATURE)


def test_a_log_without_a_plateau_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no plateau; run longer"):
        shear_viscosity(write_log(tmp_path / "p.csv", n=400), TEMPERATURE, n_blocks=20, longest_ps=0.18)
