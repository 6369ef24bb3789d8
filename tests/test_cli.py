"""The command line: help without heavy imports, JSON and nothing else, one line for a mistake."""

import dataclasses
import json
import signal
import subprocess
import sys
from importlib.metadata import version

import ase.io
import numpy as np
import pytest
from simulations import signal_once_it_runs, small_run, write_inputs
from training_toys import toy_atoms, toy_frames, write_toy_run, write_toy_set

import openmm_allegro
from openmm_allegro.cli import main
from openmm_allegro.simulation.config import SimulateConfig

# mdtraj's reader of DCD files; what Lightning would rather see
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:mdtraj"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:lightning"),
]
VERBS = (
    "train",
    "evaluate",
    "export",
    "simulate",
    "analyze",
    "compare",
    "bench",
    "info",
    "ensemble",
    "calibrate",
    "select",
    "prepare",
    "convert",
    "lammps",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def finished_run(inputs):
    """Folder of twenty steps made by the command line."""
    (inputs / "run.toml").write_text(small_run(inputs, 20).to_toml())
    assert main(["simulate", str(inputs / "run.toml"), "--output", str(inputs / "run")]) == 0
    return inputs / "run"


def printed_json(capfd, *words):
    """The object that a verb prints; nothing else may stand on standard output, C code's words included."""
    capfd.readouterr()
    status = main([*map(str, words), "--json"])
    printed = capfd.readouterr()
    assert status == 0, printed.err
    return json.loads(printed.out)


def complaint(capfd, *words):
    """The one line about a mistake."""
    capfd.readouterr()
    assert main([*map(str, words)]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("openmm-allegro: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)])
def test_help_and_import_load_neither_torch_nor_openmm(words):
    program = (
        "import sys, openmm_allegro\nfrom openmm_allegro.cli import main\n"
        f"assert main({words}) == 0\n"
        "print([name for name in ('torch', 'openmm', 'mdtraj', 'lightning', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example_and_its_defaults(capfd, verb):
    assert main([verb, "--help"]) == 0
    shown = capfd.readouterr().out
    assert f"openmm-allegro {verb} " in shown.split("Example")[1]
    if verb != "info":
        assert "[default: " in " ".join(shown.split())


def test_without_words_the_help_is_shown(capfd):
    assert main([]) == 0
    shown = capfd.readouterr().out
    assert all(verb in shown for verb in VERBS)


def test_the_version_is_that_of_the_installed_package(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"openmm-allegro {version('openmm-allegro')}\n"
    assert openmm_allegro.__version__ == version("openmm-allegro")


def test_every_option_of_a_simulation_is_a_flag_with_its_default(capfd):
    main(["simulate", "--help"])
    shown = " ".join(capfd.readouterr().out.split())
    for name, field in SimulateConfig.model_fields.items():
        if name == "stages":  # tables of the file
            continue
        assert f"--{name.replace('_', '-')} " in shown
        if isinstance(field.default, int | float | str) and not isinstance(field.default, bool):
            assert f"[default: {field.default}]" in shown


def test_simulate_prints_what_it_made(capfd, inputs, tmp_path):
    words = [
        "--steps",
        10,
        "--temperature-k",
        350,
        "--replicate",
        1,
        1,
        2,
        "--no-minimize",
        "--output",
        tmp_path / "run",
    ]
    (inputs / "short.toml").write_text(small_run(inputs, 20).to_toml())
    made = printed_json(capfd, "simulate", inputs / "short.toml", *words, "--output", tmp_path / "run")
    assert (made["steps"], made["n_atoms"], made["ensemble"]) == (10, 48, "NVT")
    assert made["ns_per_day"] > 0
    for name in ("trajectory", "log", "final_structure", "checkpoint"):
        assert (tmp_path / "run" / made[name].rpartition("/")[2]).is_file()
    text = (tmp_path / "run" / "simulation.toml").read_text()
    assert "temperature_k = 350.0\n" in text
    assert "minimize = false\n" in text


def test_resume_goes_on_without_options(capfd, inputs, tmp_path):
    (inputs / "short.toml").write_text(small_run(inputs, 10).to_toml())
    printed_json(capfd, "simulate", inputs / "short.toml", "--output", tmp_path / "run")
    made = printed_json(capfd, "simulate", "--resume", "--steps", 15, "--output", tmp_path / "run")
    assert (made["steps"], made["steps_now"]) == (15, 5)


def test_a_reader_is_told_figures_by_name(capfd, finished_run):
    capfd.readouterr()
    assert main(["info", str(finished_run.parent / "model.safetensors")]) == 0
    lines = [line.split(maxsplit=1) for line in capfd.readouterr().out.splitlines()]
    assert ["type_names", "H, O"] in lines
    assert ["r_max", "4"] in lines


def test_info_prints_the_metadata(capfd, inputs):
    metadata = printed_json(capfd, "info", inputs / "model.safetensors")
    assert metadata["config"]["type_names"] == ["H", "O"]
    assert metadata["units"] == {"length": "angstrom", "energy": "eV"}
    said = complaint(capfd, "info", inputs / "model.safetensors", "--picture", inputs / "picture.png")
    assert "`--output` and `--picture` are for data, but `" in said


def test_analyze_prints_figures_though_its_reader_prints_too(capfd, finished_run, tmp_path):
    words = [
        finished_run / "trajectory.dcd",
        finished_run / "start.pdb",
        "--timestep-ps",
        0.0025,
        "--what",
        "rdf,density",
    ]
    figures = printed_json(capfd, "analyze", *words, "--output", tmp_path)
    assert figures["n_frames"] == 4
    assert figures["density"]["density"]["density_g_per_cm3"] == pytest.approx(0.997, abs=1e-3)


def test_compare_prints_differences(capfd, finished_run, tmp_path):
    run = finished_run / "trajectory.dcd"
    figures = printed_json(capfd, "compare", run, run, "--topology", finished_run / "start.pdb", "--output", tmp_path)
    assert figures["rdf"]["rdf_O-O"]["difference_per_cent"] == 0.0


def test_analyze_lists_what_it_knows(capfd):
    capfd.readouterr()
    assert main(["analyze", "--list"]) == 0
    assert "angles:triplet=S-P-S" in capfd.readouterr().out


def test_evaluate_prints_errors(capfd, inputs, tmp_path):
    data = write_toy_set(tmp_path / "toy.xyz", count=3)
    errors = printed_json(capfd, "evaluate", inputs / "model.safetensors", data, "--device", "cpu")
    assert errors["n_frames"] == 3
    assert errors["forces_mae_mev_per_angstrom"] > 0
    said = complaint(capfd, "evaluate", inputs / "model.safetensors", data, "--units", "Ry")
    assert "option `units` is 'Ry'" in said


@pytest.mark.parametrize("verb", ["evaluate", "prepare", "ensemble"])
def test_mistakes_in_data_name_the_options_of_the_command(capfd, inputs, tmp_path, verb):
    np.savez(tmp_path / "a.npz", z=[1, 1], R=np.zeros((1, 2, 3)), E=[0.0])
    strong = [dataclasses.replace(frame, forces=1e5 * frame.forces) for frame in toy_frames(2)]
    ase.io.write(tmp_path / "strong.xyz", [toy_atoms(frame) for frame in strong], format="extxyz")
    model, output = inputs / "model.safetensors", ["--output", tmp_path / "out"]
    words = {
        "evaluate": ["evaluate", model],
        "prepare": ["prepare", "--r-max", 4, *output],
        "ensemble": ["ensemble", model, "--last-layer", *output, "--train"],
    }[verb]
    assert "set `--units` (rMD17" in complaint(capfd, *words, tmp_path / "a.npz")
    said = complaint(capfd, *words, tmp_path / "strong.xyz")
    assert "expected at most 1000; remove the frame, or check `--units`" in said
    assert complaint(capfd, *words, tmp_path / "no.xyz").rstrip().endswith("no.xyz`")


def test_evaluate_tells_groups_as_a_table(capfd, inputs, tmp_path):
    data = write_toy_set(tmp_path / "toy.xyz", count=6)
    words = ["evaluate", inputs / "model.safetensors", data, data, "--group-by", "size", "--shift", "constant"]
    figures = printed_json(capfd, *words, "--device", "cpu", "--output", tmp_path / "errors")
    assert figures["groups"]["3 atoms"]["n_frames"] == 4
    assert set(figures["shift_ev"]) == {"constant"}
    assert figures["files"][0].endswith("errors.csv")
    capfd.readouterr()
    assert main([*map(str, words), "--device", "cpu"]) == 0
    lines = capfd.readouterr().out.splitlines()
    rows = lines[lines.index("groups") + 1 :]
    assert rows[0].split()[:2] == ["n_frames", "n_atoms"]
    assert [row.split()[:3] for row in rows[1:4]] == [["3", "atoms", "4"], ["4", "atoms", "4"], ["5", "atoms", "4"]]
    said = complaint(capfd, *words[:3], "--group-by", "colour", "--device", "cpu")
    assert "no frame has `colour` to group by" in said


def test_info_looks_at_data(capfd, tmp_path):
    data = write_toy_set(tmp_path / "toy.xyz", count=6)
    told = printed_json(capfd, "info", data, "--output", tmp_path / "statistics.json", "--picture", tmp_path / "a.png")
    assert (told["n_frames"], told["suspicions"]) == (6, "none")
    assert (tmp_path / "statistics.json").is_file()
    assert (tmp_path / "a.png").is_file()
    assert "there is no file `none.xyz`" in complaint(capfd, "info", "none.xyz")


def test_train_prints_models_and_errors(capfd, tmp_path):
    config = write_toy_run(tmp_path, "max_epochs = 2", count=8)
    made = printed_json(capfd, "train", config, "--output", tmp_path / "out", "--no-pictures")
    assert (tmp_path / "out" / made["best_model"].rpartition("/")[2]).is_file()
    assert made["validation"]["n_frames"] == 4


def test_export_writes_torchscript_that_gives_the_energy(capfd, inputs, finished_run, tmp_path):
    import openmm
    import torch
    import vesin_torch  # noqa: F401  (the operators of the neighbour list)

    made = printed_json(
        capfd, "export", inputs / "model.safetensors", finished_run / "start.pdb", "--output", tmp_path / "f.pt"
    )
    assert (made["n_atoms"], made["periodic"]) == (24, True)
    structure = openmm.app.PDBFile(str(finished_run / "start.pdb"))
    positions = torch.tensor(structure.getPositions(asNumpy=True)._value)
    box = torch.tensor([list(vector) for vector in structure.topology.getPeriodicBoxVectors()._value])
    energy, _ = torch.jit.load(tmp_path / "f.pt")(positions, box)
    system = openmm.XmlSerializer.deserialize((finished_run / "system.xml").read_text())
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(structure.positions)
    expected = context.getState(energy=True).getPotentialEnergy()._value
    assert energy.item() == pytest.approx(expected, rel=1e-6)  # float32 network


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["simulate", "--temperture-k", "300"], "No such option: --temperture-k"),
        (["simulate", "--steps", "5"], "option `model` is missing; option `structure` is missing"),
        (["simulate", "--temperature-k", "hot"], "Invalid value for '--temperature-k'"),
        (["simulate", "none.toml"], "there is no file `none.toml`"),
        (["simulate", "--resume", "--output", "none"], "there is no run to resume in `none`"),
        (["info", "none.safetensors"], "there is no model file none.safetensors"),
        (["train", "none.toml"], "none.toml"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(capfd, monkeypatch, tmp_path, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in complaint(capfd, *words)


def test_an_unknown_option_in_a_file_is_told_with_the_nearest(capfd, tmp_path):
    (tmp_path / "run.toml").write_text('model = "m"\nstructure = "s"\nsteps = 1\ntemperture_k = 3\n')
    said = complaint(capfd, "simulate", tmp_path / "run.toml")
    assert "unknown option `temperture_k`; did you mean `temperature_k`? known options: model, structure" in said


def test_an_existing_run_is_refused_in_one_line(capfd, finished_run):
    said = complaint(capfd, "simulate", finished_run.parent / "run.toml", "--output", finished_run)
    assert "already has `simulation.toml` of another run" in said


def test_a_stopped_run_is_told_how_to_go_on(capfd, inputs, tmp_path):
    (inputs / "long.toml").write_text(small_run(inputs, 100_000).to_toml())
    sender = signal_once_it_runs(tmp_path / "run", signal.SIGTERM)
    assert main(["simulate", str(inputs / "long.toml"), "--output", str(tmp_path / "run"), "--json"]) == 130
    sender.join()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "openmm-allegro: stopped at step" in printed.err
    assert "`--resume` goes on from there" in printed.err


def test_traceback_shows_the_rest(capfd):
    assert main(["info", "none.safetensors", "--traceback"]) == 1
    said = capfd.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("openmm-allegro: there is no model file none.safetensors\n")
