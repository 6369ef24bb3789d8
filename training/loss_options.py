"""The `[loss]` section: weights of the errors, how they change over a run, and how an error counts."""

from typing import Literal

from pydantic import model_validator

from openmm_allegro.training.sections import NotNegative, Positive, Section, Share


class LossOptions(Section):
    """Weights of the errors of energy [eV], forces [eV/Å] and stress [eV/Å³], and how an error counts."""

    energy: NotNegative = 1.0
    """Weight of the energy error."""
    forces: NotNegative = 1.0
    """Weight of the force error; with 0 the energies alone are trained on."""
    stress: NotNegative = 0.0
    """Weight of the stress error."""
    kind: Literal["mse", "huber", "stratified_huber"] = "mse"
    """`mse` squares errors; `huber` lets those beyond a threshold count linearly; `stratified_huber` lowers the
    threshold of large forces."""
    energy_end: NotNegative | None = None
    """Weight of the energy error at the end of the run; not given: it stays."""
    forces_end: NotNegative | None = None
    """Weight of the force error at the end of the run; not given: it stays."""
    stress_end: NotNegative | None = None
    """Weight of the stress error at the end of the run; not given: it stays."""
    ramp: tuple[Share, Share] = (0.0, 1.0)
    """Shares of the run between which weights with an `_end` go there in a straight line; the same twice: at once."""
    per_atom_energy: bool = True
    """Divide the energy error by the number of atoms before it counts."""
    huber_energy: Positive = 0.01
    """Threshold of the energy error [eV], per atom with `per_atom_energy`."""
    huber_forces: Positive = 0.01
    """Threshold of the error of a force component [eV/Å]."""
    huber_stress: Positive = 0.01
    """Threshold of the error of a stress component [eV/Å³]."""
    huber_strata: tuple[tuple[NotNegative, Positive], ...] = ((0.0, 1.0), (100.0, 0.7), (200.0, 0.4), (300.0, 0.1))
    """`[size, share]`: reference forces of this size [eV/Å] or more have this share of `huber_forces`."""

    @model_validator(mode="after")
    def _something_to_train_on(self) -> "LossOptions":
        names = ("energy", "forces", "stress")
        if not any(self.largest(name) for name in names):
            raise ValueError("all weights are 0: give `loss.energy`, `loss.forces` or `loss.stress`")
        if not any(getattr(self, name) for name in names):
            raise ValueError(
                "all weights are 0 at the beginning: give `loss.energy`, `loss.forces` or `loss.stress`, from which "
                "those with an `_end` go there"
            )
        ends = (getattr(self, f"{name}_end") for name in names)
        if not any(getattr(self, name) if end is None else end for name, end in zip(names, ends, strict=True)):
            raise ValueError("all weights are 0 at the end: raise `loss.energy_end`, `loss.forces_end` or another")
        return self

    @model_validator(mode="after")
    def _ramp_of_something(self) -> "LossOptions":
        if self.ramp[0] > self.ramp[1]:
            raise ValueError(f"option `loss.ramp` is {list(self.ramp)}: it must not end before it begins")
        ends = (self.energy_end, self.forces_end, self.stress_end)
        if "ramp" in self.model_fields_set and all(end is None for end in ends):
            raise ValueError(
                "`loss.ramp` has no effect without `loss.energy_end`, `loss.forces_end` or `loss.stress_end`; "
                "give one, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _thresholds_of_something(self) -> "LossOptions":
        users = dict.fromkeys(("huber_energy", "huber_forces", "huber_stress"), ("huber", "stratified_huber"))
        for option, kinds in (users | {"huber_strata": ("stratified_huber",)}).items():
            if option in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f'`loss.{option}` has no effect with `loss.kind = "{self.kind}"`; leave it out')
        sizes = [size for size, _ in self.huber_strata]
        if sizes[:1] != [0.0] or sizes != sorted(set(sizes)):
            raise ValueError(f"the sizes in `loss.huber_strata` are {sizes}; they must begin with 0 and rise")
        return self

    def largest(self, name: str) -> float:
        """The larger one of the two weights of `energy`, `forces` or `stress`."""
        return max(getattr(self, name), getattr(self, f"{name}_end") or 0.0)
