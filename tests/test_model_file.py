"""Models of nequip, read from its files: the same numbers as nequip's own, and refused with a reason otherwise."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

openmm = pytest.importorskip("openmm")
import ase  # noqa: E402
import numpy as np  # noqa: E402
from conftest import random_atoms, small_config, small_model  # noqa: E402
from openmm import app, unit  # noqa: E402

from openmm_allegro import AllegroCalculator, AllegroForce, units  # noqa: E402
from openmm_allegro.checkpoint import load_model, read_metadata, save_model  # noqa: E402
from openmm_allegro.cli import main  # noqa: E402
from openmm_allegro.export import ForceModule  # noqa: E402
from openmm_allegro.model_file import convert_file, describe_model, loaded  # noqa: E402
from openmm_allegro.nequip.file import converted, read_nequip  # noqa: E402
from openmm_allegro.nequip.options import config_of_options  # noqa: E402
from openmm_allegro.potential import Potential  # noqa: E402
from openmm_allegro.recognise import recognise  # noqa: E402
from openmm_allegro.scripted import ScriptedPotential, scripted_model  # noqa: E402
from openmm_allegro.torchscript import script  # noqa: E402

pytest.importorskip("allegro.model", reason="nequip-allegro is not installed")
from nequip_files import (  # noqa: E402
    as_nequip_runs,
    evaluated,
    nequip_network,
    write_checkpoint,
    write_package,
    write_torchscript,
)

EV_AND_ANGSTROM = ("eV", "angstrom")
CONFIG = small_config(
    per_edge_type_cutoff={"H": {"H": 4.0, "O": 3.0}, "O": {"H": 3.5, "O": 3.5}},
    radial_chemical_embed_dim=8,
    bessel_trainable=True,
    polynomial_cutoff_p=5,
    num_layers=3,
    parity=False,
    tp_path_channel_coupling=False,
    avg_num_neighbors={"H": 9.0, "O": 14.0},
    scalar_embed_mlp_nonlinearity="mish",
    allegro_mlp_nonlinearity="none",
    allegro_mlp_hidden_layers_depth=2,
    per_type_energy_shifts={"H": -13.6, "O": -2041.0},
    per_type_energy_scales={"H": 0.7, "O": 2.1},
    per_type_energy_shifts_trainable=True,
    zbl=True,
    zbl_polynomial_cutoff_p=7,
)
"""Far from the defaults, in every option that a file has to tell."""

Numbers = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of nequip: one Allegro model in all three kinds, another from plain training, and NequIP."""
    made = tmp_path_factory.mktemp("nequip")
    with as_nequip_runs():
        network = write_checkpoint(made / "model.ckpt", CONFIG, moving_average=True)
        write_package(made / "model.nequip.zip", made / "model.ckpt")
        write_torchscript(made / "model.nequip.pth", network)
        plain = write_checkpoint(made / "plain.ckpt", small_config(radial_chemical_embed="spline"), False)
        write_torchscript(made / "gnn.nequip.pth", nequip_network())
        for name, each in (("model", network), ("plain", plain), ("gnn", nequip_network())):
            torch.save(evaluated(each, *random_atoms(16, 5.5), 4.0), made / f"{name}.numbers")
    return made


def relative(found: Numbers, expected: Numbers) -> float:
    """Largest difference of energy, forces and virial, each relative to its largest component."""
    pairs = zip(found, expected, strict=True)
    return max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)


@pytest.mark.parametrize("name", ["model.ckpt", "model.nequip.zip", "model.nequip.pth"])
def test_every_kind_of_file_gives_the_options_and_the_numbers_of_nequip(folder, name):
    found = read_nequip(folder / name, recognise(folder / name))
    initial = {"per_type_energy_shifts": CONFIG.per_type_energy_shifts}  # they are trained
    assert found.config.model_copy(update=initial) == CONFIG
    model = converted(found, None, name)
    assert model.dtype == torch.float64
    numbers = Potential(model)(*random_atoms(16, 5.5))
    assert relative(numbers, torch.load(folder / "model.numbers")) < 1e-10  # float64, sums in another order


def test_of_a_checkpoint_the_moving_average_is_taken_as_nequip_does(folder):
    found = read_nequip(folder / "model.ckpt", "checkpoint")
    raw = torch.load(folder / "model.ckpt", weights_only=True)["state_dict"]
    name = next(name for name in found.tensors if name.endswith("edge_readout.mlp_module.mlp.2.weight"))
    assert found.weights == "moving average"
    assert not torch.equal(found.tensors[name], raw[name])
    plain = read_nequip(folder / "plain.ckpt", "checkpoint")
    assert plain.weights == "last"
    numbers = Potential(converted(plain, EV_AND_ANGSTROM, ""))(*random_atoms(16, 5.5))
    assert relative(numbers, torch.load(folder / "plain.numbers")) < 1e-10


@pytest.mark.parametrize("name", ["model", "gnn"])
def test_a_deployed_model_run_as_it_is_gives_the_numbers_of_nequip(folder, name):
    potential = ScriptedPotential(scripted_model(folder / f"{name}.nequip.pth", 1.0, 1.0))
    assert relative(potential(*random_atoms(16, 5.5)), torch.load(folder / f"{name}.numbers")) < 1e-10


def test_a_model_of_other_units_is_the_same_function_of_scaled_lengths_and_energies(folder):
    own = loaded(folder / "plain.ckpt", model_units=EV_AND_ANGSTROM)
    atomic = loaded(folder / "plain.ckpt", model_units=("Hartree", "bohr"))
    assert atomic.config.r_max == 4.0 * units.BOHR_TO_ANGSTROM
    positions, cell, types = random_atoms(16, 5.5)
    bohr = units.BOHR_TO_ANGSTROM
    energy, forces, virial = Potential(own)(positions, cell, types)
    expected = (
        energy * units.HARTREE_TO_EV,
        forces * units.HARTREE_TO_EV / bohr,
        virial * units.HARTREE_TO_EV,
    )
    assert relative(Potential(atomic)(positions * bohr, cell * bohr, types), expected) < 1e-10


def test_as_it_is_other_units_are_the_same_function_too(folder):
    positions, cell, types = random_atoms(16, 5.5)
    energy, forces, virial = torch.load(folder / "gnn.numbers")
    potential = ScriptedPotential(scripted_model(folder / "gnn.nequip.pth", 2.0, 10.0))
    expected = (energy * 2.0, forces * 0.2, virial * 2.0)
    assert relative(potential(positions * 10.0, cell * 10.0, types), expected) < 1e-10


def openmm_system(force: openmm.Force, types: torch.Tensor, cell: torch.Tensor) -> openmm.System:
    """A System of hydrogen and oxygen with this force."""
    system = openmm.System()
    for type_index in types:
        system.addParticle(16.0 if type_index == 1 else 1.0)
    system.setDefaultPeriodicBoxVectors(*(cell.numpy() * units.ANGSTROM_TO_NM))
    system.addForce(force)
    return system


def test_a_copied_system_of_a_model_run_as_it_is_has_forces_that_are_minus_the_slope_of_its_energy(folder):
    positions, _, types = random_atoms(16, 7.5)
    cell = 7.5 * torch.eye(3, dtype=torch.float64)
    symbols = ["HO"[index] for index in types]
    model = folder / "gnn.nequip.pth"
    force = AllegroForce(model, None, model_units=EV_AND_ANGSTROM, types=symbols, periodic=True, precision="double")
    system = openmm.XmlSerializer.clone(openmm_system(force, types, cell))
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    places = positions.numpy() * units.ANGSTROM_TO_NM
    context.setPositions(places)
    found = (
        context.getState(forces=True).getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    )
    step = 1e-5
    energies = []
    for sign in (1, -1):
        moved = places.copy()
        moved[3, 1] += sign * step
        context.setPositions(moved)
        energies.append(context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
    slope = (energies[0] - energies[1]) / (2 * step)
    assert abs(found).max() > 1
    assert found[3, 1] == pytest.approx(-slope, rel=1e-6, abs=1e-4)  # (1e-5 nm)² times a third derivative


def test_a_model_run_as_it_is_can_be_scripted_for_torchforce(folder):
    positions, cell, types = random_atoms(16, 5.5)
    potential = ScriptedPotential(scripted_model(folder / "gnn.nequip.pth", 1.0, 1.0))
    scripted = script(ForceModule(potential, types, None, periodic=True, scaled=False))
    energy, forces = scripted(positions * units.ANGSTROM_TO_NM, cell * units.ANGSTROM_TO_NM)
    expected = torch.load(folder / "gnn.numbers")
    torch.testing.assert_close(energy, expected[0] * units.EV_TO_KJ_PER_MOL, rtol=1e-12, atol=0)
    scale = units.EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM
    torch.testing.assert_close(forces, expected[1] * scale, rtol=0, atol=1e-8)  # float64, of forces up to 1e3


def test_a_model_run_as_it_is_refuses_what_it_cannot_do(folder):
    model = folder / "gnn.nequip.pth"
    options = {"model_units": EV_AND_ANGSTROM, "types": ["H", "O"], "periodic": False}
    with pytest.raises(ValueError, match="`max_memory` is 1 GiB, but the model runs as it is"):
        AllegroForce(model, None, max_memory="1 GiB", **options)
    with pytest.raises(ValueError, match="`kernels` is True, but"):
        AllegroForce(model, None, kernels=True, **options)


def test_pressures_of_a_model_run_as_it_is_are_refused_before_anything_is_written(folder, tmp_path, capsys):
    ase.Atoms("OH2", [[1, 1, 1], [1.96, 1, 1], [0.76, 1.93, 1]], cell=[9, 9, 9], pbc=True).write(tmp_path / "one.xyz")
    words = ["simulate", "--model", folder / "gnn.nequip.pth", "--model-units", "eV", "angstrom", "--steps", 1]
    words += ["--structure", tmp_path / "one.xyz", "--pressure-every", 1, "--output", tmp_path / "run"]
    assert main([str(word) for word in words]) == 1
    assert "gnn.nequip.pth` runs as it is, and pressures are known of Allegro models only" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_units_are_asked_for_and_never_guessed(folder):
    with pytest.raises(ValueError, match="does not say what units .* `model_units=.*convert it once by"):
        loaded(folder / "plain.ckpt")
    with pytest.raises(ValueError, match="add `--energy-units eV --length-units angstrom`"):
        convert_file(folder / "plain.ckpt", folder / "never.safetensors")
    with pytest.raises(ValueError, match="'meV' is no unit of a model that is known here; known are eV, kcal/mol"):
        loaded(folder / "plain.ckpt", model_units=("meV", "angstrom"))
    for name in ("model.ckpt", "model.nequip.pth"):  # a TorchScript file could run as it is
        with pytest.raises(ValueError, match="has the ZBL repulsion in eV and Å, so that it cannot be in eV and nm"):
            loaded(folder / name, model_units=("eV", "nm"))
    with pytest.raises(ValueError, match="one is given; give both"):
        convert_file(folder / "plain.ckpt", folder / "never.safetensors", energy_units="eV")


def test_simulate_and_the_calculator_take_files_of_nequip_as_the_converted_model(folder, tmp_path, capsys):
    positions, cell, types = random_atoms(16, 5.5)
    atoms = ase.Atoms(np.array(["H", "O"])[types], positions.numpy(), cell=cell.numpy(), pbc=True)
    atoms.calc = AllegroCalculator(folder / "plain.ckpt", model_units=EV_AND_ANGSTROM, precision="double")
    energy, forces, _ = torch.load(folder / "plain.numbers")
    assert atoms.get_potential_energy() == pytest.approx(energy.item(), rel=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-10 * float(forces.abs().max()))
    with pytest.raises(ValueError, match="this file of nequip holds no Allegro model.*take nequip's own"):
        AllegroCalculator(folder / "gnn.nequip.pth", model_units=EV_AND_ANGSTROM)
    with pytest.raises(ValueError, match="`model_units` are of a file of nequip, and this model is loaded already"):
        AllegroCalculator(small_model(), model_units=EV_AND_ANGSTROM)

    atoms.write(tmp_path / "start.xyz")
    words = ["simulate", "--model", str(folder / "plain.ckpt"), "--structure", str(tmp_path / "start.xyz")]
    words += ["--steps", "1", "--report-every", "1", "--no-minimize", "--timestep-fs", "1e-6", "--precision", "double"]
    words += ["--bridge", "python", "--platform", "Reference", "--output", str(tmp_path / "run"), "--json"]
    assert main(words) == 1
    assert "`--model-units eV angstrom` of `simulate`" in capsys.readouterr().err
    assert main([*words, "--model-units", "eV", "angstrom"]) == 0
    logged = (tmp_path / "run" / "log.csv").read_text().splitlines()[1].split(",")
    # the cell is turned, and in a step of 1e-6 fs nothing moves
    assert float(logged[2]) == pytest.approx(energy.item() * units.EV_TO_KJ_PER_MOL, rel=1e-7)
    assert main(["simulate", "--resume", "--steps", "2", "--output", str(tmp_path / "run"), "--json"]) == 0


def test_openmm_ml_takes_a_file_of_nequip(folder):
    openmmml = pytest.importorskip("openmmml", reason="openmm-ml is not installed")
    positions, _, types = random_atoms(16, 5.5)
    topology = app.Topology()
    residue = topology.addResidue("A", topology.addChain())
    for of_type in types.tolist():
        topology.addAtom("A", app.Element.getBySymbol("HO"[of_type]), residue)
    potential = openmmml.MLPotential("allegro", modelPath=str(folder / "plain.ckpt"))
    system = potential.createSystem(topology, model_units=EV_AND_ANGSTROM, precision="double")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions.numpy() * units.ANGSTROM_TO_NM)
    energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    model = loaded(folder / "plain.ckpt", EV_AND_ANGSTROM)
    expected = Potential(model)(positions, torch.zeros((3, 3)), types)[0].item() * units.EV_TO_KJ_PER_MOL
    assert energy == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "FILE", "frames.xyz"],
        ["ensemble", "FILE", "FILE"],
        ["export", "FILE", "--format", "nequip"],
        ["lammps", "--model", "FILE", "--structure", "STRUCTURE", "--steps", "1", "--dry-run"],
        ["bench", "--model", "FILE"],
    ],
    ids=lambda words: words[0],
)
def test_other_verbs_say_how_to_convert_a_file_of_nequip(folder, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]]).write("pair.xyz")
    given = {"FILE": str(folder / "plain.ckpt"), "STRUCTURE": "pair.xyz"}
    assert main([given.get(word, word) for word in words]) == 1
    said = capsys.readouterr().err
    assert f"convert it first by `openmm-allegro convert {folder / 'plain.ckpt'} --energy-units eV" in said
    assert [path.name for path in tmp_path.iterdir()] == ["pair.xyz"]


def test_convert_writes_a_model_that_says_where_it_comes_from(folder, tmp_path, capsys):
    output = tmp_path / "model.safetensors"
    words = ["convert", str(folder / "model.ckpt"), "--output", str(output), "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["from"] == "nequip checkpoint"
    assert said["type_names"] == ["H", "O"]
    provenance = read_metadata(output)["provenance"]
    assert provenance["converted_from"] == "model.ckpt"
    assert provenance["units_of_training"] == ["eV", "angstrom"]
    numbers = Potential(load_model(output))(*random_atoms(16, 5.5))
    assert relative(numbers, torch.load(folder / "model.numbers")) < 1e-10
    assert main(["convert", str(output)]) == 1
    assert "is a safetensors file already" in capsys.readouterr().err


def test_info_describes_models_of_ours_and_of_nequip(folder, tmp_path, capsys):
    save_model(small_model(), tmp_path / "ours.safetensors")
    assert describe_model(tmp_path / "ours.safetensors")["kind"] == "openmm-allegro"
    said = describe_model(folder / "model.nequip.zip")
    assert said["config"]["r_max"] == 4.0
    assert said["versions"] == {"nequip": "0.19.1", "allegro": "0.8.3"}
    assert (
        said["n_weights"]
        == converted(read_nequip(folder / "model.ckpt", "checkpoint"), None, "").describe()["n_weights"]
    )
    assert main(["info", str(folder / "gnn.nequip.pth")]) == 0
    assert "as it is: no Allegro model" in capsys.readouterr().out


OPTIONS: dict[str, object] = {
    "_target_": "allegro.model.AllegroModel",
    "type_names": ["H", "O"],
    "r_max": 4.0,
    "l_max": 1,
    "avg_num_neighbors": 12.0,
    "radial_chemical_embed": {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "polynomial_cutoff_p": 5},
}
ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": ["H", "O"]}


def test_options_that_are_left_out_are_nequips_defaults():
    config = config_of_options(OPTIONS, "0.16.2", "m.ckpt")
    assert (config.num_tensor_features, config.num_scalar_features, config.parity) == (16, 64, True)
    old = config_of_options(OPTIONS | {"pair_potential": ZBL}, "0.16.2", "m.ckpt")
    new = config_of_options(OPTIONS | {"pair_potential": ZBL}, "0.17.0", "m.ckpt")
    assert (old.zbl_polynomial_cutoff_p, new.zbl_polynomial_cutoff_p) == (5, 6)
    shifted = config_of_options(OPTIONS | {"per_type_energy_shifts": [-1.0, -5.0]}, "0.7.1", "m.ckpt")
    assert shifted.per_type_energy_shifts == {"H": -1.0, "O": -5.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scatter_features": True}, "`scatter_features` = True, which this package does not have"),
        ({"forward_normalize": False}, "`forward_normalize` = False"),
        ({"new_option": 3}, "`new_option` = 3"),
        ({"_target_": "allegro.model.FullAllegroModel"}, "`allegro.model.FullAllegroModel`"),
        ({"radial_chemical_embed": {"_target_": "mine.Embed"}}, "`radial_chemical_embed` = 'mine.Embed'"),
        (
            {"pair_potential": {"_target_": "nequip.nn.pair_potential.LennardJones"}},
            "`pair_potential` = .*LennardJones",
        ),
        ({"pair_potential": ZBL | {"units": "real"}}, "`pair_potential.units` = 'real'"),
        ({"type_names": ["H", "water_O"]}, "not a chemical symbol"),
        ({"allegro_mlp_nonlinearity": "tanh"}, "`allegro_mlp_nonlinearity` = 'tanh'"),
    ],
)
def test_an_option_that_we_do_not_have_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        config_of_options(OPTIONS | options, "0.19.1", "m.ckpt")


class _Runs:
    """Unpickled the usual way it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.target,)


def test_code_in_a_checkpoint_or_a_package_is_never_run(folder, tmp_path):
    content = torch.load(folder / "model.ckpt", weights_only=True)
    torch.save(content | {"extra": _Runs(tmp_path / "harm")}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match="cannot be read as plain data .*nequip-package build"):
        read_nequip(tmp_path / "bad.ckpt", "checkpoint")
    with zipfile.ZipFile(folder / "model.nequip.zip") as source, zipfile.ZipFile(tmp_path / "bad.zip", "w") as target:
        for name in source.namelist():
            harm = name.endswith("eager_model.pkl")
            target.writestr(name, pickle.dumps(_Runs(tmp_path / "harm")) if harm else source.read(name))
    with pytest.raises(ValueError, match="no Allegro model"):
        read_nequip(tmp_path / "bad.zip", "package")
    assert not (tmp_path / "harm").exists()
    torch.load(tmp_path / "bad.ckpt", weights_only=False)  # the file would have done it
    assert (tmp_path / "harm").exists()


def _archive(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"")

    return write


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of git-lfs"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (pickle.dumps([1]), "is a pickle, which would run code"),
        (b"\x89HDF\r\n\x1a\n0000", "is an HDF5 file"),
        (b"2\nProperties=species:S:1\nH 0 0 0\n", "is a text file"),
        (b"\x00\x01\x02", "begins as none does"),
        (b"PK\x03\x04 and no end", "it is truncated"),
        (_archive("model/data/aotinductor/model/a.so"), "compiled by AOTInductor: .*give the checkpoint"),
        (_archive("energy.npy"), "is an npz file"),
        (_archive("word/document.xml"), "holds no model"),
        (_archive("m/constants.pkl", "m/code/__torch__/mace/modules.py"), "TorchScript model of mace"),
        (lambda path: torch.save({"weight": torch.zeros(2)}, path), "without the options of their model"),
        (lambda path: torch.save(small_model(), path), "pickled model of openmm_allegro"),
    ],
)
def test_what_is_no_model_file_is_said(tmp_path, content, message):
    path = tmp_path / "model"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    with pytest.raises(ValueError, match=message):
        recognise(path)


@pytest.mark.parametrize("name", ["model.ckpt", "model.nequip.zip", "model.nequip.pth"])
def test_a_truncated_file_of_nequip_is_said_to_be_so(folder, tmp_path, name):
    whole = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="it is truncated, copy it again"):
        loaded(tmp_path / name, model_units=EV_AND_ANGSTROM)


def test_a_published_model_has_the_energy_that_cp2k_published(ab_initio_data):
    """Of its input of one water box, with its own Hartree; and the same as the file run as it is."""
    reference = ab_initio_data / "reference_models"
    if not reference.is_dir():
        pytest.skip("the published model is not among the data here")
    model = reference / "data__Allegro__waterscan-allegro0.8.0.nequip.pth"
    rows = (reference / "tests__Fist__regtest-nequip__water-bulk.xyz").read_text().split("\n")[2:]
    atoms = [row.split() for row in rows if row.strip()]
    positions = torch.tensor(np.array([row[1:4] for row in atoms], dtype=float))
    types = torch.tensor([("H", "O").index(row[0]) for row in atoms])
    cell = 9.8528 * torch.eye(3, dtype=torch.float64)
    numbers = Potential(loaded(model))(positions, cell, types)
    as_it_is = ScriptedPotential(scripted_model(model, 1.0, 1.0))(positions, cell, types)
    assert relative(numbers, as_it_is) < 1e-10
    hartree_of_cp2k_ev = 27.21138386
    assert numbers[0].item() / hartree_of_cp2k_ev == pytest.approx(-550.634583715432086, rel=1e-9)  # CP2K's tolerance


def test_topology_of_openmm_is_enough_for_a_converted_model(folder):
    topology = app.Topology()
    residue = topology.addResidue("OH", topology.addChain())
    for symbol in ("O", "H"):
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    force = AllegroForce(folder / "model.ckpt", topology)
    assert force.getName() == "AllegroForce"
    save_model(small_model(), folder / "ours.safetensors")
    with pytest.raises(ValueError, match="states its units itself"):
        AllegroForce(folder / "ours.safetensors", topology, model_units=EV_AND_ANGSTROM)
