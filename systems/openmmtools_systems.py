"""The test systems of openmmtools, by the names of their classes."""

import importlib
import inspect
import logging
import warnings
from types import ModuleType

from openmm import unit

from openmm_allegro.systems.files import known_names
from openmm_allegro.systems.water import System


def openmmtools_system(name: str) -> System:
    """Topology, positions and box of a class of `openmmtools.testsystems`, such as AlanineDipeptideVacuum.

    https://openmmtools.readthedocs.io/en/stable/testsystems.html
    """
    testsystems = _testsystems()
    base = testsystems.TestSystem
    known = [each for each, kind in inspect.getmembers(testsystems, inspect.isclass) if issubclass(kind, base)]
    known.remove("TestSystem")
    if name not in known:
        raise ValueError(f"openmmtools has no test system {known_names(name, known)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = getattr(testsystems, name)()
        except Exception as error:  # some need files or programs that are not there
            raise ValueError(f"openmmtools cannot build `{name}` here: {error}") from error
    for atom in made.topology.atoms():
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} of openmmtools' `{name}` has no chemical element, so no model knows it"
            )
    box = None
    if made.system.usesPeriodicBoundaryConditions():
        vectors = made.system.getDefaultPeriodicBoxVectors()
        box = unit.Quantity([vector.value_in_unit(unit.nanometer) for vector in vectors], unit.nanometer)
    made.topology.setPeriodicBoxVectors(box)
    return made.topology, made.positions, box


def _testsystems() -> ModuleType:
    """Without what its dependencies print when they are imported, of time series and JAX."""
    talkative = logging.getLogger("pymbar")
    level = talkative.level
    talkative.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("openmmtools.testsystems")
    finally:
        talkative.setLevel(level)
