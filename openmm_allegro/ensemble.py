"""Several models that answer the same question; how far they disagree says how far to trust them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from pydantic import JsonValue

from openmm_allegro.config import AllegroConfig
from openmm_allegro.last_layer import last_weights, with_last_weights
from openmm_allegro.model import Allegro
from openmm_allegro.summary import ENSEMBLE_FORMAT, Description, of_models
from openmm_allegro.typed import ModulesOf

NOT_CALIBRATED = (
    "this ensemble is not calibrated, so its spreads are not standard deviations of its errors; run "
    "`openmm-allegro calibrate` on validation data"
)


class Factors(NamedTuple):
    """What multiplies the spreads of the members so that they are standard deviations of the errors."""

    energy: float
    """Of the energy of a frame."""
    forces: float
    """Of the components of the forces."""


class Ensemble(torch.nn.Module):
    """Allegro models with the same types and cutoff, whose mean is the prediction and whose spread is its doubt.

    Members may be trained apart (a deep ensemble; Lakshminarayanan et al. 2017) or share everything but the last
    layer of a model (`training.last_layer`, after Bigi et al. 2024); then that model, the centre, is their mean.
    """

    centre: Allegro | None

    def __init__(
        self, members: Sequence[Allegro], factors: Factors | None = None, centre: Allegro | None = None
    ) -> None:
        """Put models together.

        Parameters
        ----------
        members
            Two or more; types, cutoff and precision are the same for all.
        factors
            From `training.calibration`; None while the ensemble is not calibrated.
        centre
            The model that members 0 and 1, 2 and 3, … lie around as mirror images in their last layer.
        """
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"an ensemble needs two or more models, but {len(members)} is given")
        for number, member in enumerate(members[1:], 1):
            _check_alike(members[0], member, number)
        self.config: AllegroConfig = members[0].config
        self.dtype = members[0].dtype
        self.members = cast(ModulesOf[Allegro], torch.nn.ModuleList(members))
        self.factors = factors
        self.centre = centre
        self.calibration: Mapping[str, JsonValue] = {}
        """Figures of the calibration, for a reader."""
        self.provenance: Mapping[str, JsonValue] = {}

    def for_dynamics(self) -> "Allegro | Ensemble":
        """What predicts the mean: the centre, at the price of one model, or the ensemble itself."""
        return self if self.centre is None else self.centre

    def describe(self) -> Description:
        """What its file says of it; `n_weights` are those of one member."""
        models = ([] if self.centre is None else [self.centre]) + list(self.members)
        said = models[0].describe()
        del said["config"]
        return Description(
            said
            | {"format": ENSEMBLE_FORMAT, "has_centre": self.centre is not None}
            | {"factors": None if self.factors is None else self.factors._asdict()}
            | {"calibration": dict(self.calibration), "provenance": dict(self.provenance)}
            | of_models([model.config.model_dump(mode="json") for model in models], self.centre is not None)
        )

    def _repr_html_(self) -> str:
        return self.describe()._repr_html_()

    def in_precision(self, dtype: torch.dtype) -> "Ensemble":
        """A copy with weights of the given dtype."""
        members = [in_precision(member, dtype) for member in self.members]
        copy = Ensemble(members, self.factors, None if self.centre is None else in_precision(self.centre, dtype))
        copy.calibration, copy.provenance = self.calibration, self.provenance
        return copy


def mirrored_ensemble(centre: Allegro, deviations: torch.Tensor, factors: Factors | None = None) -> Ensemble:
    """Pairs of members around a model. deviations: of the last layer's weights, (pairs, h), see `last_weights`."""
    weights = last_weights(centre)
    signed = [weights + sign * deviation for deviation in deviations.to(weights) for sign in (1, -1)]
    return Ensemble([with_last_weights(centre, each) for each in signed], factors, centre)


def in_precision(model: Allegro, dtype: torch.dtype) -> Allegro:
    """A copy of the model with weights of the given dtype; the user's own is left as it is."""
    copy = Allegro(model.config, dtype)
    copy.load_state_dict(model.state_dict())
    copy.provenance = model.provenance
    return copy


def _check_alike(first: Allegro, other: Allegro, number: int) -> None:
    ours, theirs = first.config, other.config
    for what, unit in (("type_names", ""), ("r_max", " Å")):
        if getattr(ours, what) != getattr(theirs, what):
            raise ValueError(
                f"model {number} has `{what}` {_shown(getattr(theirs, what))}{unit}, but model 0 has "
                f"{_shown(getattr(ours, what))}{unit}; an ensemble's models share types, in the same order, and cutoff"
            )
    if first.dtype != other.dtype:
        raise ValueError(f"model {number} has {other.dtype} weights, but model 0 {first.dtype}; give one precision")


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
