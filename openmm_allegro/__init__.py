"""Allegro interatomic potentials in OpenMM: `AllegroForce`, models and their files."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmm_allegro.calculator import AllegroCalculator as AllegroCalculator
    from openmm_allegro.checkpoint import load_model as load_model
    from openmm_allegro.checkpoint import save_model as save_model
    from openmm_allegro.config import AllegroConfig as AllegroConfig
    from openmm_allegro.ensemble import Ensemble as Ensemble
    from openmm_allegro.ensemble_file import load_ensemble as load_ensemble
    from openmm_allegro.ensemble_file import save_ensemble as save_ensemble
    from openmm_allegro.force import AllegroForce as AllegroForce
    from openmm_allegro.minimize import minimize_energy as minimize_energy
    from openmm_allegro.model import Allegro as Allegro
    from openmm_allegro.model_file import describe_model as describe_model
    from openmm_allegro.pressure_reporter import PressureReporter as PressureReporter
    from openmm_allegro.uncertainty_reporter import UncertaintyReporter as UncertaintyReporter

_CLONE = Path(__file__).parents[1]
if (_CLONE / "pyproject.toml").is_file() and (_CLONE / "systems").is_dir():
    __path__.append(str(_CLONE))  # `training` and `systems`, for Python that was started in a clone

_HOME = {
    "Allegro": "model",
    "AllegroCalculator": "calculator",
    "AllegroConfig": "config",
    "AllegroForce": "force",
    "Ensemble": "ensemble",
    "PressureReporter": "pressure_reporter",
    "UncertaintyReporter": "uncertainty_reporter",
    "describe_model": "model_file",
    "load_ensemble": "ensemble_file",
    "load_model": "checkpoint",
    "minimize_energy": "minimize",
    "save_ensemble": "ensemble_file",
    "save_model": "checkpoint",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `--help` and the analyses never load torch."""
    if name == "__version__":
        return import_module("importlib.metadata").version("openmm-allegro")
    if name not in _HOME:
        raise AttributeError(f"module 'openmm_allegro' has no attribute {name!r}")
    return getattr(import_module(f"openmm_allegro.{_HOME[name]}"), name)
