"""AllegroForce as a potential of openmm-ml, for whole and for mixed ML/MM systems."""

import inspect
import warnings
from collections.abc import Iterable
from pathlib import Path

from openmm_allegro.force import AllegroForce  # isort: skip  (before openmm, which the next one imports)
import openmm
from openmm import app
from openmmml import mlpotential

from openmm_allegro.ensemble import Ensemble
from openmm_allegro.model import Allegro

FROM_OPENMM_ML = ("atoms", "system", "force_group")
"""Options of AllegroForce that openmm-ml gives."""


class AllegroPotential(mlpotential.MLPotentialImpl):
    """What `MLPotential("allegro", modelPath=…)` computes with.

    `createSystem` and `createMixedSystem` take the options of AllegroForce by their names: `precision`, `device`,
    `bridge`, `model_units`, `skin`, `max_memory`, `tabulate`, `kernels`, `types`, `atomic_numbers`, `periodic`,
    `scale_parameter`.

    Embedding is mechanical: the model sees the ML atoms only, and the force field has all interactions between them and
    the others, with its fixed charges. The model is not polarised by what surrounds it. Within the ML atoms openmm-ml
    interpolates from a force field without a cutoff, and leaves its CustomCVForce in force group 0.
    """

    def __init__(self, model: Allegro | Ensemble | str | Path) -> None:
        """model: what AllegroForce takes."""
        self.model = model

    def addForces(  # noqa: N802 (openmm-ml's name)
        self,
        topology: app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,  # noqa: N803
        **options: object,
    ) -> None:
        """Add an AllegroForce that acts on these atoms; what openmm-ml calls.

        Parameters
        ----------
        system
            The System that is made; without particles when openmm-ml interpolates, so that it cannot be checked.
        atoms
            Indices of the ML atoms, with those of link atoms where openmm-ml adds some; None means all.
        options
            Those of AllegroForce, and `linkAtomDistances`, which openmm-ml 1.8 uses itself.
        """
        if caps_cut_bonds():
            options.pop("linkAtomDistances", None)
        _check_options(options)
        chosen = None if atoms is None else list(atoms)
        if chosen is None:
            _check_elements(topology)
        elif not caps_cut_bonds():
            _warn_of_cut_bonds(topology, set(chosen))
        checked = system if system.getNumParticles() > 0 else None
        force = AllegroForce(
            self.model,
            topology,
            atoms=chosen,
            system=checked,
            force_group=forceGroup,
            **options,  # type: ignore[arg-type]
        )
        system.addForce(force)

    def getMLLongRange(self) -> bool:  # noqa: N802 (openmm-ml's name)
        """Allegro is strictly local; openmm-ml 1.8 asks when the system is periodic."""
        return False


def caps_cut_bonds() -> bool:
    """Whether this openmm-ml puts hydrogen link atoms on bonds between ML and MM atoms: from 1.8 on."""
    return hasattr(mlpotential, "Embedding")


def _check_options(options: dict[str, object]) -> None:
    """Refuse what AllegroForce has no option for."""
    parameters = inspect.signature(AllegroForce).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in FROM_OPENMM_ML]
    for name in options:
        if name in ("linkAtomDistances", "embedding", "returnInfo", "mlLongRange"):
            raise ValueError(f"`{name}` is an option of openmm-ml 1.8 and newer, and this one is older")
        if name not in known:
            raise ValueError(f"unknown option `{name}` for the potential 'allegro'; known options: {', '.join(known)}")


def _check_elements(topology: app.Topology) -> None:
    """Refuse virtual sites where openmm-ml gives the model every particle."""
    for atom in topology.atoms():
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name} of {atom.residue.name}) has no element, and `createSystem` gives the "
                "model every particle; take `createMixedSystem` with the atoms that have one, or a topology without it"
            )


def _warn_of_cut_bonds(topology: app.Topology, atoms: set[int]) -> None:
    """Say that the model sees an open valence where a bond leaves the ML atoms."""
    cut = [bond for bond in topology.bonds() if (bond.atom1.index in atoms) != (bond.atom2.index in atoms)]
    bonded = [bond for bond in cut if bond.atom1.element is not None and bond.atom2.element is not None]
    if bonded:
        names = "–".join(f"{each.name} ({each.index})" for each in (bonded[0].atom1, bonded[0].atom2))
        warnings.warn(
            f"the ML atoms are bonded to {len(bonded)} others, the first at {names}, and this openmm-ml does not cap "
            "such bonds: the model sees open valences; give it whole molecules, or install openmm-ml 1.8, which adds "
            "hydrogen link atoms",
            stacklevel=4,
        )
