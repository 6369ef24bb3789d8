"""What openmm-ml finds under the name `allegro` when it is imported; it loads nothing heavy.

potential = MLPotential("allegro", modelPath="model.safetensors")
system = potential.createMixedSystem(topology, mm_system, ml_atoms, precision="double")
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmm_allegro.ensemble import Ensemble
    from openmm_allegro.model import Allegro
    from openmm_allegro.openmm_ml_potential import AllegroPotential


class AllegroPotentialFactory:
    """Makes the potential `allegro` of openmm-ml.

    Not a subclass of openmm-ml's factory, of which it asks only for `createImpl`: openmm-ml loads this module while it
    is imported itself, so that importing openmm-ml here would go in a circle.
    """

    def createImpl(  # noqa: N802 (openmm-ml's name)
        self, name: str, modelPath: "Allegro | Ensemble | str | Path | None" = None, **options: object
    ) -> "AllegroPotential":
        """The potential that `MLPotential("allegro", modelPath=…)` asks for.

        Parameters
        ----------
        name
            What openmm-ml calls it: 'allegro'.
        modelPath
            The path of a `.safetensors` file written by `openmm-allegro train` or `ensemble`, or of a file of nequip
            as for `AllegroForce`, or a loaded model.
        """
        if options:
            raise ValueError(
                f"MLPotential({name!r}) has no option `{next(iter(options))}`, only `modelPath`; options of the force "
                "are for `createSystem` and `createMixedSystem`, `model_units` of a file of nequip among them; other "
                "files say their units themselves"
            )
        if modelPath is None:
            raise ValueError(
                f"MLPotential({name!r}) needs `modelPath`, the path of a `.safetensors` file written by "
                "`openmm-allegro train`"
            )
        from openmm_allegro.openmm_ml_potential import AllegroPotential

        return AllegroPotential(modelPath)
