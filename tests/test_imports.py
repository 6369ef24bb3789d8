"""Imports point one way, and the light entry points stay light."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYERS = [
    {
        "units",
        "options",
        "verbs.answers",
        "simulation.stage_options",
        "cores",
        "kernels",
        "typed",
        "verbs.options",
        "lammps.mpi_library",
        "simulation.run_lock",
        "xyz_text",
        "gro_elements",
        "torchscript",
    },
    {
        "config",
        "device",
        "simulation.run_config",
        "mlp",
        "structure",
        "kernel_operators",
        "cells",
        "open_cell",
        "summary",
        "outputs",
    },
    {"lammps.data", "context_constraints", "atom_types", "system_checks", "simulation.resumable", "verbs.counts"},
    {"radial", "operators", "neighbors", "dense"},
    {"model", "edges"},
    {"two_body", "last_layer"},
    {"triton_edges", "ensemble"},
    {"folded", "checkpoint", "nequip.package"},
    {"folded_ensemble", "ensemble_file", "recognise", "scripted", "simulation.reported_files"},
    {"potential", "nequip.weights", "nequip.options", "simulation.restart"},
    {"nequip.parts"},
    {"nequip.file"},
    {"export", "workers", "spread", "graph", "model_file"},
    {"bridges", "lammps.ghosts", "compiled_graph"},
    {"force", "lammps.ghost_exchange", "lammps.config"},
    {"lammps.force"},
    {"lammps.input", "lammps.checkpoint"},
    {"lammps.log"},
    {"lammps.run"},
    {"lammps.prepare"},
    {"lammps.launch"},
    {
        "export_file",
        "export_graph",
        "calculator",
        "minimize",
        "openmm_ml_potential",
        "simulation.config",
        "simulation.system",
        "bench.config",
        "bench.machine",
        "bench.water",
        "verbs.flags",
    },
    {
        "export_compiled",
        "export_lammps",
        "openmm_ml",
        "simulation.stages",
        "pressure_reporter",
        "uncertainty_reporter",
        "selection",
        "verbs.analysis",
        "verbs.build",
        "verbs.dynamics",
        "verbs.ensemble",
        "verbs.models",
        "verbs.speed",
        "verbs.training",
    },
    {"simulation.reports", "bench.peers", "export_formats"},
    {"simulation.run", "bench.setup", "bench.timing"},
    {"bench.run"},
    {"cli"},
]
SIBLINGS = {("simulation.system", "simulation.config")}
"""Modules of one layer of which the first may import the second."""


COMMAND_LINE = (
    "verbs.analysis",
    "verbs.build",
    "verbs.ensemble",
    "verbs.options",
    "verbs.speed",
    "verbs.training",
)
"""What may import training and systems, lazily."""


def modules() -> dict[str, Path]:
    """The library's own modules by name: `force`, `lammps.run`, … without the analyses."""
    package = ROOT / "openmm_allegro"
    paths = [path for path in package.rglob("*.py") if path.stem not in ("__init__", "__main__")]
    named = {".".join(path.relative_to(package).with_suffix("").parts): path for path in paths}
    return {name: path for name, path in named.items() if not name.startswith("analysis.")}


def imported(path: Path, *, lazily: bool) -> set[str]:
    """Modules of this package that a file imports: `force`, `training.run`, …"""
    tree = ast.parse(path.read_text())
    dotted: set[str] = set()
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            dotted |= {f"{node.module}.{alias.name}" for alias in node.names}
    dotted = {name for name in dotted if name.startswith("openmm_allegro.")}
    named = {name.removeprefix("openmm_allegro.") for name in dotted}  # of modules, and of what is in them
    return {name if name in modules() else name.rpartition(".")[0] for name in named} - {""}


def test_modules_import_only_from_the_layers_below():
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    assert set(modules()) == set(level), "every module has its layer"
    for module, path in modules().items():
        for name in imported(path, lazily=False):
            if name.startswith("analysis.") and level[module] > 0:
                continue  # the analyses themselves import no more than the lowest layer
            assert level[name] < level[module] or (module, name) in SIBLINGS, f"{module} imports {name}"


def test_analysis_imports_neither_torch_nor_the_model():
    for path in (ROOT / "openmm_allegro" / "analysis").glob("*.py"):
        text = path.read_text()
        assert "import torch" not in text
        for name in imported(path, lazily=True):
            assert name in ("units", "xyz_text", "gro_elements") or name.startswith("analysis."), (
                f"{path.name} imports {name}"
            )


def test_the_library_imports_training_and_systems_only_in_the_command_line_and_lazily():
    for module, path in modules().items():
        for name in imported(path, lazily=module not in COMMAND_LINE):
            assert not name.startswith(("training", "systems")), f"{module} imports {name}"


def test_the_package_and_its_help_do_not_load_torch_or_openmm():
    code = (
        "import sys, openmm_allegro, openmm_allegro.analysis\n"
        "from openmm_allegro.cli import main\n"
        "assert main(['--help']) == 0\n"
        "print([name for name in ('torch', 'openmm', 'e3nn', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_runs_as_a_module_too():
    done = subprocess.run([sys.executable, "-m", "openmm_allegro", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("openmm-allegro ")


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
