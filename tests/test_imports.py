"""Imports point one way, and the light entry points stay light."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"units", "options", "answers", "stages", "device", "kernels", "typed", "cli_options", "mpi_library", "run_lock"},
    {"config", "run_config", "mlp", "structure", "kernel_operators", "cells", "open_cell", "summary", "outputs"},
    {"lammps_data", "context_constraints", "atom_types", "system_checks", "resumable", "cli_counts"},
    {"radial", "operators", "neighbors", "dense"},
    {"model", "edges"},
    {"two_body", "last_layer"},
    {"triton_edges", "ensemble"},
    {"folded", "checkpoint", "nequip_package"},
    {"folded_ensemble", "ensemble_file", "recognise", "scripted", "reported_files"},
    {"potential", "nequip", "nequip_options", "restart"},
    {"nequip_parts"},
    {"nequip_file"},
    {"export", "workers", "spread", "graph", "model_file"},
    {"bridges", "ghosts", "compiled_graph"},
    {"force", "ghost_exchange", "lammps_config"},
    {"lammps_force"},
    {"lammps_input", "lammps_checkpoint"},
    {"lammps_log"},
    {"lammps_run"},
    {"lammps_prepare"},
    {"lammps_launch"},
    {
        "export_file",
        "export_graph",
        "calculator",
        "minimize",
        "openmm_ml_potential",
        "simulate_config",
        "simulate_system",
        "bench_config",
        "bench_machine",
        "bench_water",
    },
    {
        "export_compiled",
        "export_lammps",
        "openmm_ml",
        "simulate_stages",
        "pressure_reporter",
        "uncertainty_reporter",
        "selection",
        "cli_analysis",
        "cli_build",
        "cli_ensemble",
        "cli_models",
        "cli_training",
    },
    {"simulate_reports", "bench_peers", "export_formats"},
    {"simulate", "bench_setup", "bench_timing"},
    {"bench"},
    {"cli"},
]
SIBLINGS = {("simulate_system", "simulate_config")}
"""Modules of one layer of which the first may import the second."""


COMMAND_LINE = ("cli", "cli_analysis", "cli_build", "cli_ensemble", "cli_options", "cli_training")
"""What may import training and systems, lazily."""


def imported(path: Path, *, lazily: bool) -> set[str]:
    """Modules of this package that a file imports: `force`, `training.run`, …"""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazily else tree.body
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    dotted = [f"{node.module}.{a.name}" for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names]
    found = {name.removeprefix("openmm_allegro.") for name in names if name.startswith("openmm_allegro.")}
    return found | {name.removeprefix("openmm_allegro.") for name in dotted if name == "openmm_allegro.units"}


def test_modules_import_only_from_the_layers_below():
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    modules = [path for path in (ROOT / "openmm_allegro").glob("*.py") if path.stem != "__init__"]
    assert {path.stem for path in modules} == set(level), "every module has its layer"
    for path in modules:
        for name in imported(path, lazily=False):
            if name.startswith("analysis.") and level[path.stem] > 0:
                continue  # the analyses themselves import no more than the units
            assert level[name] < level[path.stem] or (path.stem, name) in SIBLINGS, f"{path.stem} imports {name}"


def test_analysis_imports_neither_torch_nor_the_model():
    for path in (ROOT / "openmm_allegro" / "analysis").glob("*.py"):
        text = path.read_text()
        assert "import torch" not in text
        for name in imported(path, lazily=True):
            assert name == "units" or name.startswith("analysis."), f"{path.name} imports {name}"


def test_the_library_imports_training_and_systems_only_in_the_command_line_and_lazily():
    for path in (ROOT / "openmm_allegro").glob("*.py"):
        for name in imported(path, lazily=path.stem not in COMMAND_LINE):
            assert not name.startswith(("training", "systems")), f"{path.name} imports {name}"


def test_the_package_and_its_help_do_not_load_torch_or_openmm():
    code = (
        "import sys, openmm_allegro, openmm_allegro.analysis\n"
        "from openmm_allegro.cli import main\n"
        "assert main(['--help']) == 0\n"
        "print([name for name in ('torch', 'openmm', 'e3nn', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_that_was_started_in_a_clone_finds_all_parts_of_it():
    code = (
        "import sys\n"
        "sys.meta_path = [each for each in sys.meta_path if 'Editable' not in getattr(each, '__name__', '')]\n"
        "import openmm_allegro.systems, openmm_allegro.training\n"
        "print(openmm_allegro.__file__, openmm_allegro.systems.__file__, openmm_allegro.training.__file__, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    folders = ("openmm_allegro", "systems", "training")
    assert done.stdout.split() == [str(ROOT / folder / "__init__.py") for folder in folders]
