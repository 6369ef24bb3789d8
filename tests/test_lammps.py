"""LAMMPS with a model on one and two ranks gives what the model gives to OpenMM."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import ase
import lammps_ranks as cases
import mdtraj
import numpy as np
import openmm
import pytest
import torch
from conftest import small_model
from openmm import app, unit
from simulations import read_frames, read_log, write_inputs

from openmm_allegro.analysis.energy import TIME, VOLUME
from openmm_allegro.analysis.viscosity import PRESSURES
from openmm_allegro.calculator import AllegroCalculator
from openmm_allegro.cli import main
from openmm_allegro.force import AllegroForce
from openmm_allegro.lammps.config import LammpsConfig, load_config
from openmm_allegro.lammps.launch import run_lammps
from openmm_allegro.lammps.mpi_library import mpiexec
from openmm_allegro.potential import Potential
from openmm_allegro.units import EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM, EV_TO_KJ_PER_MOL

missing = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
TOLERANCE = {"double": 1e-10, "single": 2e-6}
"""Relative; float32 has 24 bits, and a force adds some ten terms of like size."""


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def answers(request, tmp_path_factory):
    """What `lammps_ranks.py` finds on so many ranks."""
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    answer = tmp_path_factory.mktemp("ranks") / "answer.json"
    command = [mpiexec(), "-n", str(request.param), sys.executable, cases.__file__, str(answer)]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(answer.read_text())


def openmm_answer(name, precision):
    """Energy [eV] and forces (n, 3) [eV/Å] of a case from AllegroForce on OpenMM's Reference platform."""
    positions, cell, types = cases.system(name)
    topology = app.Topology()
    residue = topology.addResidue("A", topology.addChain())
    for of_type in types.tolist():
        topology.addAtom("A", app.Element.getBySymbol("HO"[of_type]), residue)
    box = cell / 10
    box[2] -= np.round(box[2, 1] / box[1, 1]) * box[1]  # the same lattice in OpenMM's form
    box[2] -= np.round(box[2, 0] / box[0, 0]) * box[0]
    topology.setPeriodicBoxVectors(box * unit.nanometer)
    system = openmm.System()
    for _ in types:
        system.addParticle(1.0)
    system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
    system.addForce(AllegroForce(small_model(), topology, bridge="python", device="cpu", precision=precision))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions / 10)
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) / EV_TO_KJ_PER_MOL
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return energy, forces / EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.SYSTEMS)
@pytest.mark.parametrize("precision", ["double", "single"])
def test_energy_and_forces_are_those_in_openmm(answers, name, precision):
    found = answers[1][name][precision]
    energy, forces = openmm_answer(name, precision)
    tolerance = TOLERANCE[precision]
    assert found["energy"] == pytest.approx(energy, rel=tolerance)
    assert found["lammps energy"] == pytest.approx(energy, rel=tolerance)
    assert found["sum of atoms"] == pytest.approx(energy, rel=tolerance)
    ours = np.array(found["forces"]).reshape(-1, 3)
    np.testing.assert_allclose(ours, forces, rtol=0, atol=tolerance * np.abs(forces).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.SYSTEMS)
def test_virial_and_lammps_pressure_are_those_of_the_periodic_system(answers, name):
    positions, cell, types = cases.system(name)
    potential = Potential(small_model())
    expected = potential(torch.from_numpy(positions), torch.from_numpy(cell), types)[2].numpy()
    found = answers[1][name]["double"]
    np.testing.assert_allclose(found["virial"], expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    six = expected[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    pressures = np.array(found["pressures"]) * found["volume"] / 1.602176634e6  # bar Å³ in eV; nothing moves
    np.testing.assert_allclose(pressures, six, rtol=0, atol=1e-6 * np.abs(six).max())  # LAMMPS has seven digits of it


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.SYSTEMS)
def test_stresses_of_atoms_which_the_model_does_not_give_are_no_numbers(answers, name):
    assert np.isnan(answers[1][name]["double"]["stress of atoms"])  # LAMMPS would sum zeros


@pytest.mark.slow
def test_atoms_that_change_ranks_move_as_a_plain_verlet_moves_them(answers):
    ranks, found = answers[0], answers[1]["moved"]
    assert found["builds"] > 3
    assert (found["changed rank"] > 0) == (ranks > 1)
    positions, cell, types = cases.system("liquid")
    potential, there = Potential(small_model()), torch.from_numpy(cell)
    # eV/Å/Da in Å/ps² with LAMMPS's constant, so that only the order of sums differs
    push = 1 / 1.0364269e-4 / np.array(cases.MASSES)[types.numpy()][:, None]
    velocities = cases.first_velocities(len(types))
    forces = potential(torch.from_numpy(positions), there, types)[1].numpy()
    for _ in range(cases.STEPS):
        velocities = velocities + cases.TIMESTEP_PS / 2 * forces * push
        positions = positions + cases.TIMESTEP_PS * velocities
        forces = potential(torch.from_numpy(positions), there, types)[1].numpy()
        velocities = velocities + cases.TIMESTEP_PS / 2 * forces * push
    shifts = (np.array(found["positions"]) - positions) @ np.linalg.inv(cell)
    shifts -= np.round(shifts)  # of atoms that started outside the box
    assert np.abs(shifts @ cell).max() < 1e-8  # 1e-15 that grows a few times a vibration


@pytest.mark.slow
def test_what_one_rank_cannot_do_ends_the_run_on_all_with_a_sentence(answers):
    for errors in answers[1]["errors"]:
        assert errors["on one spot"] == "atoms 7 and 8 are on one spot; move one of them; this is step 0 of LAMMPS"
        assert errors["unknown"].startswith("atom type 2 is Na, but this model knows only H, O; retrain with Na")
        assert errors["too few"] == "`types` has 1 names, but this LAMMPS has 2 atom types; name each of them"
        assert errors["skin"] == "`skin` is -1.0 Å; it must be zero or more"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def npt_run(inputs):
    """Folder and answer of a run at constant pressure on two ranks, from the command line."""
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    flags = ["--model", inputs / "model.safetensors", "--structure", inputs / "water.pdb", "--output", inputs / "npt"]
    flags += ["--steps", 12, "--report-every", 5, "--minimize-iterations", 3, "--pressure-bar", 1000, "--ranks", 2]
    code = "import sys; from openmm_allegro.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "lammps", *map(str, flags), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return inputs / "npt", json.loads(done.stdout)


@pytest.mark.slow
def test_one_command_runs_on_two_ranks(npt_run):
    folder, answer = npt_run
    assert (answer["ranks"], answer["steps"], answer["ensemble"], answer["n_atoms"]) == (2, 12, "NPT", 24)
    assert answer["sent_bytes_per_rank_and_step"] == pytest.approx(12 * 12, rel=0.5)  # the other half, of 12 bytes
    log = {name: np.float64(values) for name, values in read_log(folder).items()}
    assert log['"Step"'].tolist() == [5, 10]
    total = log['"Potential Energy (kJ/mole)"'] + log['"Kinetic Energy (kJ/mole)"']
    np.testing.assert_allclose(log['"Total Energy (kJ/mole)"'], total, rtol=1e-12)
    grams = 8 * 18.015 / 6.02214e23
    np.testing.assert_allclose(log['"Density (g/mL)"'], grams / (log['"Box Volume (nm^3)"'] * 1e-21), rtol=1e-4)
    kelvin = 2 * log['"Kinetic Energy (kJ/mole)"'] / (69 * 0.00831446)  # 3·24 - 3 degrees of freedom
    np.testing.assert_allclose(log['"Temperature (K)"'], kelvin, rtol=1e-5)


@pytest.mark.slow
def test_the_log_has_the_columns_of_which_analysis_makes_a_viscosity(npt_run):
    """Both spell them, since analyses import nothing of the rest."""
    assert {f'"{name}"' for name in (TIME, VOLUME, *PRESSURES)} <= set(read_log(npt_run[0]))


@pytest.mark.slow
def test_frames_are_whole_molecules_in_the_box_of_their_time(npt_run):
    folder, _ = npt_run
    frames, log = read_frames(folder), read_log(folder)
    assert frames.n_frames == 2
    np.testing.assert_allclose(frames.unitcell_volumes, np.float64(log['"Box Volume (nm^3)"']), rtol=1e-5)
    start, final = (mdtraj.load(str(folder / f"{name}.pdb")) for name in ("start", "final"))
    np.testing.assert_allclose(final.xyz[0], frames.xyz[1], atol=0.02)  # two more steps
    given = mdtraj.load(str(folder.parent / "water.pdb"))
    assert np.abs(start.xyz - given.xyz).max() < 0.3  # minimised, not wrapped


@pytest.mark.slow
def test_the_thermostat_keeps_its_temperature_and_the_centre_of_mass(inputs, tmp_path):
    """Of 6 atoms, where one degree of freedom too many, or the same kick for all masses, is 20 % or 60 %."""
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    places = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [9, 9, 9], [9.96, 9, 9], [8.76, 9.93, 9]]
    ase.Atoms("OH2OH2", places).write(tmp_path / "two.xyz")
    files = {"model": inputs / "model.safetensors", "structure": tmp_path / "two.xyz", "report_every": 10}
    run_lammps(LammpsConfig.model_validate(files | {"steps": 4000, "friction_per_ps": 100}), tmp_path / "run", 1)
    kelvin = np.float64(read_log(tmp_path / "run")['"Temperature (K)"'])
    # kinetic energies are new every 1 / friction = 20 steps: 200 times 3·6 - 3 squares, of relative variance 2
    assert kelvin.mean() == pytest.approx(300, rel=4 * np.sqrt(2 / (200 * 15)))
    masses = np.array([15.999, 1.008, 1.008] * 2)
    centres = np.einsum("a,fax->fx", masses, read_frames(tmp_path / "run").xyz.astype(np.float64)) / masses.sum()
    # half a kick a step moves it before it is put to rest: friction · timestep / 2 = 1/40 of what diffusion would do,
    # sqrt(2 kT / (mass · friction) · 2 ps) = 0.05 nm
    assert np.ptp(centres, axis=0).max() < 0.01


def test_input_has_the_structure_to_the_last_digit_and_no_run_is_made(inputs, tmp_path, capsys):
    files = ["--model", str(inputs / "model.safetensors"), "--structure", str(inputs / "water.pdb")]
    flags = [*files, "--duration-ps", "1", "--output", str(tmp_path / "dry"), "--dry-run", "--json"]
    assert main(["lammps", *flags, "--hydrogen-mass-amu", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["input"] == ["atoms.data", "setup.lammps", "dynamics.lammps", "run.py"]
    lines = (tmp_path / "dry" / "atoms.data").read_text().splitlines()
    atoms = np.array([line.split() for line in lines[lines.index("Atoms  # atomic") + 2 :]], dtype=float)
    structure = app.PDBFile(str(inputs / "water.pdb"))
    expected = structure.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    np.testing.assert_allclose(atoms[:, 2:], expected, rtol=1e-15)
    assert [line.split()[:2] for line in lines if line.endswith(("# H", "# O"))] == [["1", "4.0"], ["2", "15.99943"]]
    dynamics = (tmp_path / "dry" / "dynamics.lammps").read_text()
    assert "fix integrate all nve\nfix thermostat all langevin 300.0 300.0 1.0 1\n" in dynamics
    assert "force.run(2000)" in (tmp_path / "dry" / "run.py").read_text()
    assert load_config(tmp_path / "dry" / "lammps.toml", {}).duration_ps == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "say how long to run: either `steps` or `duration_ps`"),
        ({"steps": 1, "friction_per_ps": 0, "pressure_bar": 1.0}, "`pressure_bar` needs a thermostat; set `friction_"),
        ({"steps": 1, "replicate": (1, 0, 1)}, "each number must be at least 1"),
        ({"duration_ps": 1e-4}, "shorter than one step of 0.5 fs"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        LammpsConfig.model_validate({"model": "a", "structure": "b", **options})


def test_wrong_runs_are_refused_before_any_rank_starts(inputs, tmp_path):
    files = {"model": inputs / "model.safetensors", "structure": tmp_path / "salt.xyz", "steps": 1}
    (tmp_path / "salt.xyz").write_text("2\n\nNa 0 0 0\nO 2 0 0\n")
    with pytest.raises(ValueError, match="atom 0 is Na, but this model knows only H, O"):
        run_lammps(LammpsConfig.model_validate(files), tmp_path / "run", dry_run=True)
    (tmp_path / "salt.xyz").write_text("2\n\nH 0 0 0\nO 2 0 0\n")
    with pytest.raises(ValueError, match=r"`pressure_bar` is set, but `.*salt.xyz` has no periodic box"):
        run_lammps(LammpsConfig.model_validate({**files, "pressure_bar": 1}), tmp_path / "run", dry_run=True)
    config = LammpsConfig.model_validate(files)
    run_lammps(config, tmp_path / "run", dry_run=True)
    assert "boundary m m m" in (tmp_path / "run" / "setup.lammps").read_text()
    with pytest.raises(FileExistsError, match=r"already has `lammps.toml` of another run; choose a new folder"):
        run_lammps(config, tmp_path / "run", dry_run=True)
    with pytest.raises(ValueError, match="`ranks` is 0; it must be at least 1"):
        run_lammps(config, tmp_path / "other", ranks=0)


@pytest.mark.parametrize("name", ["run.py", "atoms.data", "inputs.json", "start.pdb", "final.cif", "log.lammps"])
def test_files_of_the_user_are_not_overwritten(inputs, tmp_path, name):
    (tmp_path / name).write_text("mine")
    files = {"model": inputs / "model.safetensors", "structure": inputs / "water.pdb", "steps": 1}
    with pytest.raises(FileExistsError, match=f"already has `{name}`, which this run would overwrite"):
        run_lammps(LammpsConfig.model_validate(files), tmp_path, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.slow
def test_a_structure_that_ase_reads_on_two_ranks_of_which_one_has_no_atoms(inputs, tmp_path):
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    atoms = ase.Atoms("OH2", [[1, 1, 1], [1.96, 1, 1], [0.76, 1.93, 1]], cell=[20, 20, 20], pbc=True)
    atoms.write(tmp_path / "corner.xyz")
    files = {"model": inputs / "model.safetensors", "structure": tmp_path / "corner.xyz", "precision": "double"}
    still = {"steps": 1, "report_every": 1, "timestep_fs": 1e-6, "minimize": False, "friction_per_ps": 0}
    run_lammps(LammpsConfig.model_validate(files | still), tmp_path / "run", ranks=2)
    atoms.calc = AllegroCalculator(files["model"], precision="double")
    expected = atoms.get_potential_energy() * EV_TO_KJ_PER_MOL
    # float64, and atoms at 300 K move by 1e-8 Å in the step
    assert float(read_log(tmp_path / "run")['"Potential Energy (kJ/mole)"'][0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_the_example_heats_the_atoms_of_a_dry_run(inputs, tmp_path):
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    files = {"model": inputs / "model.safetensors", "structure": inputs / "water.pdb", "steps": 1, "minimize": False}
    run_lammps(LammpsConfig.model_validate(files), tmp_path / "box", dry_run=True)
    example = Path(__file__).parents[1] / "examples" / "lammps" / "heat.py"
    command = [sys.executable, str(example), "box", str(files["model"]), "H", "O"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [f"step {step}" for step in range(10, 60, 10)]
    assert (tmp_path / "box" / "heat.dump").read_text().count("ITEM: TIMESTEP") == 6


@pytest.mark.slow
def test_an_error_on_a_rank_is_the_error_of_the_command(inputs, tmp_path):
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    (tmp_path / "pair.xyz").write_text("3\n\nH 0 0 0\nH 0 0 0\nO 2 0 0\n")
    files = {"model": inputs / "model.safetensors", "structure": tmp_path / "pair.xyz", "steps": 5, "minimize": False}
    with pytest.raises(ValueError, match="atoms 1 and 2 are on one spot; move one of them; this is step 0 of LAMMPS"):
        run_lammps(LammpsConfig.model_validate(files), tmp_path / "run", ranks=1)
