"""Energy drift of synthetic lines and of a log that OpenMM wrote."""

import numpy as np
import openmm
import pytest
from openmm import app, unit
from trajectories import ar1

from openmm_allegro.analysis.energy import energy_drift, mean_temperature_k, read_log

EV_IN_KJ_PER_MOL = 96.48533212  # CODATA 2018


def write_log(path, time, energy):
    lines = [f"{k},{t},{e!r},300.0" for k, (t, e) in enumerate(zip(time.tolist(), energy.tolist(), strict=True))]
    path.write_text("\n".join(['#"Step","Time (ps)","Total Energy (kJ/mole)","Temperature (K)"', *lines]) + "\n")
    return path


def test_the_drift_of_a_line_is_its_slope(tmp_path):
    time = 0.5 * np.arange(200)
    mev_per_atom = 0.002 * time  # 2 meV/atom/ns
    log = write_log(tmp_path / "log.csv", time, -5000 + 10 * mev_per_atom / 1000 * EV_IN_KJ_PER_MOL)
    found = energy_drift(log, n_atoms=10)
    assert found.drift_mev_per_atom_per_ns == pytest.approx(2.0, rel=1e-7)
    assert found.drift_over_run_mev_per_atom == pytest.approx(0.002 * 99.5, rel=1e-7)
    assert found.drift_error_mev_per_atom_per_ns < 1e-6
    assert found.fluctuation_mev_per_atom < 1e-6


def test_the_error_of_the_drift_covers_correlated_noise(tmp_path):
    time, random = np.arange(2000.0), np.random.default_rng(0)
    drifts, errors = [], []
    for _ in range(30):
        log = write_log(tmp_path / "log.csv", time, EV_IN_KJ_PER_MOL / 1000 * (ar1(random, 2000, 0.9) + 0.001 * time))
        found = energy_drift(log, n_atoms=1)
        drifts.append(found.drift_mev_per_atom_per_ns)
        errors.append(found.drift_error_mev_per_atom_per_ns)
    # a unit variance with memory 0.9 is 19 times a white one: error of the slope √(19 · 12 / n³) meV/ps
    exact = np.sqrt(19 * 12 / 2000**3) * 1000
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(exact, rel=0.2)
    assert np.std(drifts) == pytest.approx(exact, rel=0.35)  # of thirty values, known to 13 %
    assert np.mean(drifts) == pytest.approx(1.0, abs=3 * exact / np.sqrt(30))
    assert found.fluctuation_mev_per_atom == pytest.approx(1, rel=0.2)


def test_a_log_of_openmm_is_read(tmp_path):
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("AR", topology.addChain())
    force = openmm.CustomExternalForce("100*(x^2+y^2+z^2)")
    for _ in range(4):
        topology.addAtom("Ar", app.Element.getBySymbol("Ar"), residue)
        force.addParticle(system.addParticle(40.0))
    system.addForce(force)
    integrator = openmm.VerletIntegrator(0.002 * unit.picoseconds)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(np.full((4, 3), 0.1))
    log = tmp_path / "log.csv"
    reporter = app.StateDataReporter(str(log), 5, step=True, time=True, totalEnergy=True, temperature=True)
    simulation.reporters.append(reporter)
    simulation.step(200)
    del simulation, reporter
    found = energy_drift(log, n_atoms=4, start_ps=0.1)
    assert len(found.time_ps) == 31  # 0.10, 0.11, … 0.40 ps
    assert read_log(log, ("Total Energy (kJ/mole)",))["Total Energy (kJ/mole)"] == pytest.approx(12.0, rel=1e-3)
    assert abs(found.drift_over_run_mev_per_atom) < 0.1  # of 31 meV/atom


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('#"Step","Time (ps)"\n1,2\n', r"no column `Total Energy \(kJ/mole\)`, only Step, Time \(ps\)"),
        ("", r"no column `Time \(ps\)`, only nothing"),
        ('#"Time (ps)","Total Energy (kJ/mole)"\n1,2\n2,\n', "line 3 of `log.csv` is not 2 numbers"),
        ('#"Time (ps)","Total Energy (kJ/mole)"\n1,2\n2\n', "line 3 of `log.csv` is not 2 numbers"),
        ('#"Time (ps)","Total Energy (kJ/mole)"\n1,2\n2,3\n', "has 2 lines from 0.0 ps on, fewer than the 3 blocks"),
        ('#"Time (ps)","Total Energy (kJ/mole)"\n1,2\n2,2\n1,2\n', "time goes from 2.0 to 1.0 ps"),
        ('#"Time (ps)","Total Energy (kJ/mole)"\n1,2\n2,nan\n3,2\n', "line 3 .* is not finite"),
    ],
)
def test_what_is_wrong_with_a_log_is_said(tmp_path, text, words):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        energy_drift(tmp_path / "log.csv", n_atoms=1, n_blocks=3)


def test_too_few_blocks_or_atoms_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs 3 or more"):
        energy_drift(tmp_path / "log.csv", n_atoms=1, n_blocks=2)
    with pytest.raises(ValueError, match="`n_atoms` is 0"):
        energy_drift(tmp_path / "log.csv", n_atoms=0)
    with pytest.raises(FileNotFoundError, match="log.csv"):
        energy_drift(tmp_path / "log.csv", n_atoms=1)


def test_the_mean_temperature_is_that_of_the_lines_from_a_time_on(tmp_path):
    lines = [f"{k},{0.5 * k},{300 + k}" for k in range(10)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(['#"Step","Time (ps)","Temperature (K)"', *lines]) + "\n")
    assert mean_temperature_k(log) == pytest.approx(304.5)
    assert mean_temperature_k(log, 4.0) == pytest.approx(308.5)
    with pytest.raises(ValueError, match="ends at 4.5 ps, before `start_ps` = 5"):
        mean_temperature_k(log, 5.0)
