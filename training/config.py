"""The TOML file of a training run as frozen objects."""

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from openmm_allegro.options import checked, read_table
from openmm_allegro.training.loss_options import LossOptions
from openmm_allegro.training.model_options import ModelOptions, check_model_options
from openmm_allegro.training.sections import Count, NotNegative, Positive, Section, Seed


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _as_minutes(value: object) -> object:
    """Minutes as they are; "00:30" and "00:30:00" are hours:minutes[:seconds]."""
    if isinstance(value, str) and re.fullmatch(r"\d+:\d\d(:\d\d)?", value):
        hours, minutes, seconds = [*map(int, value.split(":")), 0][:3]
        return 60 * hours + minutes + seconds / 60
    return value


Paths = Annotated[tuple[Path, ...], BeforeValidator(_as_list), Field(min_length=1)]
Minutes = Annotated[float, BeforeValidator(_as_minutes), Field(gt=0)]


class LabelOptions(Section):
    """Where a file keeps its labels, in which unit, and what counts as broken."""

    energy_key: str = "energy"
    """Name of the total energy."""
    forces_key: str = "forces"
    """Name of the forces."""
    stress_key: str = "stress"
    """Stress with ASE's sign [energy unit/Å³]: 3 x 3, or 6 values in Voigt order."""
    virial_key: str | None = None
    """Read the stress as -virial/volume from this key instead."""
    units: Literal["eV", "kcal/mol", "kJ/mol", "Hartree"] | None = None
    """Unit of the energies; all lengths are Å. Not given: eV, except in npz files, where it must be given."""
    max_force: Positive = 1000.0
    """A force component beyond this [eV/Å] is taken for a broken label."""
    min_distance: Positive = 0.1
    """Atoms closer than this [Å] are taken for a broken geometry."""


class DataOptions(LabelOptions):
    """Which frames are trained on, and which are held back to watch the error."""

    train: Paths
    """Files to train on: extended XYZ (also .gz, .xz), npz, what else ASE reads; or one store (`prepare`)."""
    validation: Paths | None = None
    """Files to validate on, or one store."""
    n_validation: Count | None = None
    """Hold back this many of the training frames, where no `validation` is given."""
    n_train: Count | None = None
    """Train on this many of the remaining frames only."""
    split: Literal["random", "last"] = "random"
    """`last` holds back the end of the file, for frames that follow each other in time."""
    seed: Seed = 1
    """Of the choice of frames."""
    isolated_atoms: dict[str, float] | Path | Literal["fit", "in_train", "keep"] | None = None
    """Energies of the free atoms: a table [eV], a file, least squares (`fit`), or the one-atom frames of `train`.

    Not given: `fit`; with `run.start_from` it is `keep`, where the model's own stay and only those of new elements
    are fitted, and `fit` is least squares over what the model leaves of the energies, for another level of theory.
    """
    max_energy_deviation: Positive = 50.0
    """An energy this far [eV/atom] from what the compositions of the frames predict is taken for a broken label."""

    @model_validator(mode="after")
    def _one_validation_set(self) -> "DataOptions":
        if (self.validation is None) == (self.n_validation is None):
            raise ValueError("give either `validation` (a file) or `n_validation` (a count)")
        if self.validation is not None and "split" in self.model_fields_set:
            raise ValueError("`split` has no effect beside `validation`, which nothing is held back for; leave it out")
        return self


class HeadOptions(DataOptions):
    """One of several levels of theory: its frames, and how they count."""

    weight: Positive = 1.0
    """Multiplies the loss of this head; which model is best is chosen by the mean so weighted."""
    loss: LossOptions | None = None
    """Loss of this head in place of `[loss]`, such as `forces = 0` where only energies are known."""


class OptimizerOptions(Section):
    """How the weights move: the method, its learning rate over the run, and the average that is kept."""

    name: Literal["adam", "adamw", "schedule_free", "muon"] = "adam"
    """`schedule_free` is AdamW that averages instead of lowering its learning rate; `muon` orthogonalises the steps
    of the dense layers."""
    lr: Positive = 0.01
    """Learning rate; the highest one, where it changes."""
    weight_decay: NotNegative = 0.0
    """Pull of the weights towards zero."""
    amsgrad: bool = False
    """Divide by the largest gradient seen instead of the recent ones (`adam` and `adamw`)."""
    schedule: Literal["plateau", "cosine", "constant"] = "cosine"
    """`cosine` falls over the run: over whichever of steps, epochs and time ends it first."""
    final_lr_fraction: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Where `cosine` ends and below which `plateau` does not go, as a share of `lr`."""
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] = 100
    """Steps over which the learning rate rises to `lr`."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """What `plateau` multiplies the learning rate by."""
    plateau_patience: Annotated[int, Field(ge=0, strict=True)] = 25
    """Validations without improvement before `plateau` lowers the learning rate."""
    gradient_clip: Positive | None = None
    """Largest norm of the gradient."""
    sam_rho: Positive | None = None
    """Sharpness-aware minimisation: take the gradient this far uphill; each step costs two gradients."""
    average: Literal["ema", "swa", "none"] = "ema"
    """What is validated and saved: a moving average of the weights, the plain mean over the end of the run, or the
    weights themselves."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Memory of the moving average."""
    swa_from: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Share of the run after which the plain mean begins; until then it is the last weights."""

    @model_validator(mode="after")
    def _options_that_go_together(self) -> "OptimizerOptions":
        if self.amsgrad and self.name not in ("adam", "adamw"):
            raise ValueError(f"`optimizer.amsgrad` is not known to `{self.name}`; leave it out")
        if self.name != "schedule_free":
            return self
        if self.schedule != "constant":
            raise ValueError('`schedule_free` keeps its learning rate: set `optimizer.schedule = "constant"`')
        if "average" in self.model_fields_set:
            raise ValueError("`schedule_free` has an average of its own: leave out `optimizer.average`")
        return self

    @model_validator(mode="after")
    def _options_of_something(self) -> "OptimizerOptions":
        own = self.name == "schedule_free"
        average = "the average of `schedule_free`" if own else f'`optimizer.average = "{self.average}"`'
        schedule = f'`optimizer.schedule = "{self.schedule}"`'
        for option, user, has_effect in (
            ("plateau_factor", schedule, self.schedule == "plateau"),
            ("plateau_patience", schedule, self.schedule == "plateau"),
            ("final_lr_fraction", schedule, self.schedule != "constant"),
            ("ema_decay", average, self.average == "ema" and not own),
            ("swa_from", average, self.average == "swa"),
        ):
            if option in self.model_fields_set and not has_effect:
                raise ValueError(f"`optimizer.{option}` has no effect with {user}; leave it out")
        return self


class RunOptions(Section):
    """How long, on what, and in which precision."""

    batch_size: Count = 5
    """Frames of one optimiser step, of all processes together."""
    group_by_size: bool = False
    """Fill batches with frames of like size, for sets of molecules of very different sizes: less padding, a fifth less
    time on QM9. Batches are then less like each other, the largest ones larger."""
    max_epochs: Count | None = None
    """Passes over the training frames."""
    max_steps: Count | None = None
    """Optimiser steps."""
    max_time_minutes: Minutes | None = None
    """Minutes, or "hours:minutes"; the time before a `--resume` counts."""
    early_stopping_patience: Count | None = None
    """Stop after this many validations without improvement."""
    validate_every: Positive | Count = 1
    """Epochs between validations; 0.1 validates ten times an epoch."""
    precision: Literal["float32", "float64"] = "float32"
    """Of the weights; energies are summed in float64 always."""
    matmul: Literal["highest", "high", "medium"] = "highest"
    """Of the matrix products of float32 while training, as in `torch.set_float32_matmul_precision`.

    Where the hardware has them, `high` may use TF32, which moved the forces of a trained model by 1 meV/Å, its energies
    by 0.1 meV/atom, and `medium` bfloat16 (7 meV/Å, 1 meV/atom). Models are evaluated and run with `highest`.
    """
    seed: Seed = 1
    """Of the first weights and of the order of the frames."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a CUDA device if there is one."""
    devices: Count | Literal["auto"] = 1
    """Processes on each node that share the work, each with its own GPU; `auto` takes all GPUs."""
    num_nodes: Count = 1
    """Machines that share the work, where the queue system or torchrun starts the command on each."""
    num_threads: Count | None = None
    """CPU threads of each process; not given: as torch chooses, and no more than a container may use cores."""
    start_from: Path | None = None
    """A model file whose weights and options the run begins with (fine-tuning); `[model]` can be left out.

    `model.type_names` may name more elements than the model knows.
    """
    freeze: tuple[str, ...] = ()
    """Parts of the model whose weights stay as they are, such as `two_body` or `operators`."""

    @model_validator(mode="after")
    def _ends(self) -> "RunOptions":
        if self.max_epochs is None and self.max_steps is None and self.max_time_minutes is None:
            raise ValueError("say when to stop: `run.max_epochs`, `run.max_steps` or `run.max_time_minutes`")
        return self

    @model_validator(mode="after")
    def _products_of_float32(self) -> "RunOptions":
        if self.matmul != "highest" and self.precision == "float64":
            raise ValueError('`run.matmul` has no effect with `run.precision = "float64"`; leave one of them out')
        return self


class TrainingConfig(Section):
    """One training run."""

    data: DataOptions | None = None
    heads: dict[str, HeadOptions] = {}
    """Frames of several levels of theory in place of `data`; each gets a model, which share all but their readout,
    scales and shifts."""
    model: ModelOptions = {}
    """Options of AllegroConfig; those left out that describe the data are taken from the training frames."""
    loss: LossOptions = LossOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    run: RunOptions
    toml_text: str = Field(default="", repr=False)
    """The file as it was read, kept in every checkpoint."""

    @model_validator(mode="after")
    def _data_or_heads(self) -> "TrainingConfig":
        if (self.data is None) == (not self.heads):
            raise ValueError("give either `[data]`, or `[heads.NAME]` for each level of theory")
        odd = [name for name in self.heads if not re.fullmatch(r"[A-Za-z0-9_-]+", name)]
        if odd:
            raise ValueError(f"the head {odd[0]!r} names files: use letters, digits, `_` and `-` only")
        if self.heads and "per_type_energy_shifts" in self.model:
            raise ValueError(
                "`model.per_type_energy_shifts` would be the same for all heads; give `isolated_atoms` of each head"
            )
        if self.heads and "loss" in self.model_fields_set and all(head.loss for head in self.heads.values()):
            raise ValueError("`[loss]` has no effect where every head has a loss of its own; leave it out")
        chosen = None if self.data is None else self.data.isolated_atoms
        if chosen not in (None, "in_train") and self.run.start_from is None and "per_type_energy_shifts" in self.model:
            raise ValueError(
                "`data.isolated_atoms` has no effect beside `model.per_type_energy_shifts`; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _energies_to_keep(self) -> "TrainingConfig":
        for name, head in self.all_heads().items():
            option = f"`heads.{name}.isolated_atoms`" if name else "`data.isolated_atoms`"
            if self.run.start_from is None and head.isolated_atoms == "keep":
                raise ValueError(
                    f'{option} is "keep", but there is no `run.start_from` with a model whose energies could '
                    'be kept; take "fit", or name a model'
                )
            if name and self.run.start_from is not None and head.isolated_atoms is None:
                raise ValueError(
                    f"{option} is missing: with `run.start_from` say of each head whether the energies of that model "
                    'stay ("keep"), or what they become ("fit", a table, a file)'
                )
        return self

    def all_heads(self) -> dict[str, HeadOptions]:
        """The heads by name; `data` is one without a name."""
        if self.data is None:
            return self.heads
        return {"": HeadOptions.model_construct(self.data.model_fields_set, **dict(self.data))}


Data = TypeVar("Data", bound=DataOptions)


def load_config(path: Path | str, data_root: Path | str | None = None) -> TrainingConfig:
    """Read a TOML file; paths in it are relative to its own folder, those of data to `data_root` if given."""
    path = Path(path)
    config = checked({**read_table(path), "toml_text": path.read_text(encoding="utf-8")}, TrainingConfig)
    if config.run.start_from is None:
        check_model_options(config.model)
    return _with_absolute_paths(config, path.parent, Path(data_root) if data_root else path.parent)


def _with_absolute_paths(config: TrainingConfig, folder: Path, data_root: Path) -> TrainingConfig:
    run = config.run
    if run.start_from is not None:
        run = run.model_copy(update={"start_from": folder / run.start_from})
    data = config.data and _with_absolute_data(config.data, data_root)
    heads = {name: _with_absolute_data(head, data_root) for name, head in config.heads.items()}
    return config.model_copy(update={"data": data, "heads": heads, "run": run})


def _with_absolute_data(data: Data, data_root: Path) -> Data:
    changed: dict[str, object] = {"train": tuple(data_root / path for path in data.train)}
    if data.validation is not None:
        changed["validation"] = tuple(data_root / path for path in data.validation)
    if isinstance(data.isolated_atoms, Path):
        changed["isolated_atoms"] = data_root / data.isolated_atoms
    return data.model_copy(update=changed)
