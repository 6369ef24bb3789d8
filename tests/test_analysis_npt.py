"""Density, expansion and compressibility of an ideal gas, whose volumes are known, and of hand-made numbers."""

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.blocks import jackknife
from openmm_allegro.analysis.density import mass_density
from openmm_allegro.analysis.npt import npt_fluctuations

K_KJ_PER_MOL_K = 8.31446261815324e-3
BAR_NM3_IN_KJ_PER_MOL = 0.0602214076


def gas_volumes(n_frames, n_atoms, temperature, pressure_bar, seed=0):
    """Volumes in nm³ of an ideal gas under a barostat: V^N exp(−PV/kT), a gamma distribution."""
    kt_over_p = K_KJ_PER_MOL_K * temperature / (pressure_bar * BAR_NM3_IN_KJ_PER_MOL)
    return np.random.default_rng(seed).gamma(n_atoms + 1, kt_over_p, size=n_frames)


def write_log(path, volumes, energies):
    rows = [f"{k},{float(e)!r},{float(v)!r}" for k, (v, e) in enumerate(zip(volumes, energies, strict=True))]
    path.write_text("\n".join(['#"Time (ps)","Potential Energy (kJ/mole)","Box Volume (nm^3)"', *rows]) + "\n")
    return path


def test_an_ideal_gas_has_the_compressibility_1_over_p_and_the_expansion_1_over_t(tmp_path):
    volumes = gas_volumes(20000, 50, 300.0, 20.0)
    log = write_log(tmp_path / "log.csv", volumes, 0 * volumes)
    found = npt_fluctuations(log, temperature_k=300, pressure_bar=20, n_blocks=50)
    # a variance of 20,000 values is known to √(2/20000) = 1 %
    assert found.compressibility.value == pytest.approx(1 / 20, rel=0.03)
    assert found.expansion.value == pytest.approx(1 / 300, rel=0.03)
    assert found.compressibility.error / found.compressibility.value == pytest.approx(0.01, rel=0.3)
    assert found.volume.mean == pytest.approx(51 * K_KJ_PER_MOL_K * 300 / (20 * BAR_NM3_IN_KJ_PER_MOL), rel=0.005)


def test_energy_that_follows_the_volume_adds_to_the_expansion(tmp_path):
    # U = a V: α = (a + P) Var(V) / (kT² V) = κ (a + P) / T, by hand
    volumes = gas_volumes(4000, 50, 300.0, 20.0)
    log = write_log(tmp_path / "log.csv", volumes, 2.5 * volumes)
    found = npt_fluctuations(log, temperature_k=300, pressure_bar=20)
    expected = found.compressibility.value * (2.5 / BAR_NM3_IN_KJ_PER_MOL + 20) / 300
    assert found.expansion.value == pytest.approx(expected, rel=1e-6)


def test_compressibility_from_cells_is_that_from_the_log(tmp_path):
    volumes = gas_volumes(500, 50, 300.0, 20.0)
    cells = np.cbrt(volumes)[:, None, None] * np.eye(3)
    cells[:, 1, 0] = 0.3  # tilting does not change the volume
    found = mass_density(gas(cells), temperature_k=300)
    logged = npt_fluctuations(write_log(tmp_path / "log.csv", volumes, 0 * volumes), temperature_k=300)
    assert found.figures()["compressibility_per_bar"] == pytest.approx(logged.compressibility, rel=1e-4)


def gas(cells):
    return atoms(["Ar"], np.zeros((len(cells), 1, 3)), cell=cells)


def test_compressibility_agrees_with_mdtraj():
    import mdtraj

    trajectory = gas(np.cbrt(gas_volumes(200, 50, 300.0, 20.0))[:, None, None] * np.eye(3))
    found = mass_density(trajectory, temperature_k=300.0).figures()["compressibility_per_bar"].value
    # mdtraj divides the variance by n − 1 and has k of 2010
    assert found == pytest.approx(mdtraj.isothermal_compressability_kappa_T(trajectory, 300.0) * 199 / 200, rel=1e-4)


def test_a_log_of_openmm_under_a_barostat_gives_the_ideal_gas(tmp_path):
    import openmm
    from openmm import app

    system, topology = openmm.System(), app.Topology()
    chain = topology.addChain()
    free = openmm.CustomNonbondedForce("0*r")  # periodic, without any interaction
    free.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    free.setCutoffDistance(0.1)
    for _ in range(20):
        topology.addAtom("Ar", app.Element.getBySymbol("Ar"), topology.addResidue("AR", chain))
        free.addParticle([])
        system.addParticle(40.0)
    system.addForce(free)
    system.setDefaultPeriodicBoxVectors(*(3.5 * np.eye(3)))
    barostat = openmm.MonteCarloBarostat(20.0, 300.0, 1)
    barostat.setRandomNumberSeed(1)
    system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 10.0, 0.001)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(np.random.default_rng(0).uniform(0, 3.5, size=(20, 3)))
    log = tmp_path / "log.csv"
    simulation.reporters.append(app.StateDataReporter(str(log), 4, time=True, potentialEnergy=True, volume=True))
    simulation.step(6000)
    del simulation
    found = npt_fluctuations(log, temperature_k=300.0, pressure_bar=20.0, start_ps=1.0)
    # 1,250 correlated volumes: within three of the jackknife's own errors of the exact values
    assert abs(found.compressibility.value - 1 / 20) < 3 * found.compressibility.error < 0.04
    assert abs(found.expansion.value - 1 / 300) < 3 * found.expansion.error


def test_jackknife_of_a_mean_is_the_standard_error_of_block_means():
    values = np.random.default_rng(0).normal(size=100)
    mean, error = jackknife(lambda frames: float(values[frames].mean()), 100, 10)
    means = values.reshape(10, 10).mean(axis=1)
    assert (mean, error) == pytest.approx((values.mean(), means.std(ddof=1) / np.sqrt(10)))


def test_jackknife_of_two_frames_has_no_error():
    assert np.isnan(jackknife(lambda frames: 1.0, 2, 10)[1])


def test_a_constant_volume_is_refused(tmp_path):
    log = write_log(tmp_path / "log.csv", np.ones(5), np.zeros(5))
    with pytest.raises(ValueError, match="volume in `log.csv` does not change"):
        npt_fluctuations(log, temperature_k=300)
    with pytest.raises(ValueError, match="volume in the trajectory does not change"):
        mass_density(gas(np.stack([np.eye(3)] * 3)), temperature_k=300)
    with pytest.raises(ValueError, match="no line at or after 10.0 ps"):
        npt_fluctuations(log, temperature_k=300, start_ps=10.0)
    with pytest.raises(ValueError, match="`temperature_k` is 0"):
        mass_density(gas(np.eye(3) * np.array([1, 2, 3])[:, None, None]), temperature_k=0)


def test_tables_name_their_units(tmp_path):
    volumes = gas_volumes(50, 50, 300.0, 20.0)
    found = npt_fluctuations(write_log(tmp_path / "log.csv", volumes, 0 * volumes), temperature_k=300)
    header = found.write_csv(tmp_path / "npt.csv").read_text().splitlines()[0]
    assert header == "time_ps,volume_nm3,enthalpy_kj_per_mol"
    assert found.name == "npt"
    assert found.curve() is None
