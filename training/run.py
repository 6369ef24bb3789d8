"""One training run from a configuration to a folder with models, history and pictures."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from openmm_allegro.checkpoint import load_model
from openmm_allegro.device import chosen_device
from openmm_allegro.lammps.mpi_library import find_mpi
from openmm_allegro.training import processes
from openmm_allegro.training.batch import ShuffledBatches
from openmm_allegro.training.busy_cores import BusyCores
from openmm_allegro.training.config import TrainingConfig
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.heads import InterleavedBatches, own_file, row_of_head, speaking_of
from openmm_allegro.training.keeper import HISTORY_FILE, LEFT_BY_A_STOPPED_START, RESUME_FILE, Keeper
from openmm_allegro.training.metrics import ErrorTable, error_table, predict_frames
from openmm_allegro.training.module import TrainingModule
from openmm_allegro.training.pictures import draw_learning_curve, draw_parity
from openmm_allegro.training.progress_bar import ProgressBar
from openmm_allegro.training.provenance import check_same_run, provenance, shared_by_resumed_runs
from openmm_allegro.training.rounds import Rounds
from openmm_allegro.training.splits import FrameSets, read_frame_sets
from openmm_allegro.training.starting_model import Start, starting_models
from openmm_allegro.training.statistics import STATISTICS_FILE, log_statistics, store_statistics
from openmm_allegro.training.torch_settings import torch_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadResult:
    """What a run made of one head."""

    best_model: Path
    """The averaged weights with the lowest validation loss."""
    last_model: Path
    pictures: tuple[Path, ...]
    validation: ErrorTable
    """Errors of the best model over the validation frames."""


@dataclass(frozen=True)
class TrainResult:
    """What a run made, and where."""

    output_dir: Path
    history: Path
    """One row for each validation, CSV."""
    steps: int
    epochs: float
    seconds: float
    heads: dict[str, HeadResult]
    """By name; a run without heads has one without a name, whose results are also here."""

    @property
    def best_model(self) -> Path:
        """The averaged weights with the lowest validation loss."""
        return self._only_head().best_model

    @property
    def last_model(self) -> Path:
        """The averaged weights at the end."""
        return self._only_head().last_model

    @property
    def pictures(self) -> tuple[Path, ...]:
        """Learning curves and predictions of all heads."""
        return tuple(path for head in self.heads.values() for path in head.pictures)

    @property
    def validation(self) -> ErrorTable:
        """Errors of the best model over the validation frames."""
        return self._only_head().validation

    def _only_head(self) -> HeadResult:
        if len(self.heads) > 1:
            raise ValueError(f"this run has a model for each of {', '.join(self.heads)}; take one from `heads`")
        return next(iter(self.heads.values()))

    def as_dict(self) -> dict[str, object]:
        """For JSON: paths as text, the errors as a table; results of heads by their names."""
        results = {
            name: {
                "best_model": str(head.best_model),
                "last_model": str(head.last_model),
                "pictures": [str(path) for path in head.pictures],
                "validation": head.validation.as_dict(),
            }
            for name, head in self.heads.items()
        }
        return {
            "output_dir": str(self.output_dir),
            "history": str(self.history),
            "steps": self.steps,
            "epochs": self.epochs,
            "seconds": self.seconds,
            **results.get("", {"heads": results}),
        }


def train(
    config: TrainingConfig,
    output_dir: Path | str,
    resume: bool = False,
    progress: bool = True,
    pictures: bool = True,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train a model, or one for each head.

    An interrupted run goes on with `resume`, to the same weights as without the interruption. Resuming is exact where
    steps or epochs end the run; with a time limit the learning rate follows the clock.
    progress: show a bar. pictures: draw the learning curve and predictions at the end. callbacks: of Lightning, to
    watch the run with. With several `run.devices` the program is started again for each; those others leave by
    SystemExit when the training is over.
    """
    folder = Path(output_dir)
    helper = processes.is_helper(config.run)
    if not helper:
        _check_folder(folder, resume, list(config.all_heads()))
    resume = resume and (folder / RESUME_FILE).is_file()
    device, n_devices = chosen_device(config.run.device).type, processes.devices_of_a_node(config.run)
    if config.run.num_threads is not None:
        torch.set_num_threads(config.run.num_threads)
    frames = _read_frames(config)
    starts = starting_models(config, frames)
    size, seed = config.run.batch_size, config.run.seed
    grouped = config.run.group_by_size
    batches = InterleavedBatches([ShuffledBatches(each.train, size, seed, grouped) for each in starts.values()], seed)
    held_back = [ShuffledBatches(each.validation, 4 * size, seed=None) for each in starts.values()]
    run_id = shared_by_resumed_runs(config, frames)
    if resume:
        check_same_run(folder / RESUME_FILE, run_id)
    module = TrainingModule({name: each.model for name, each in starts.items()}, config, len(batches))
    origins = {name: provenance(config, name, sets) for name, sets in frames.items()}
    keeper = Keeper(folder, InterleavedBatches(held_back, seed=None), origins, run_id)
    if not helper:
        _make_folder(folder)
    if not resume and not helper:
        _tell_statistics(starts, folder)
    watchers = [keeper, BusyCores(), *([ProgressBar()] if progress and not helper else []), *callbacks]
    with torch_settings(config.run, device):
        _fit(module, batches, keeper, watchers, (device, n_devices), resume)
        if not module.history or module.history[-1]["step"] != module.steps:
            keeper.validate_and_save(module)
    if helper:
        raise SystemExit(0)
    return _finish(module, frames, folder, pictures)


def _read_frames(config: TrainingConfig) -> dict[str, FrameSets]:
    frames = {}
    for name, head in config.all_heads().items():
        with speaking_of(name):
            frames[name] = read_frame_sets(head, head.loss or config.loss)
    return frames


def _tell_statistics(starts: Mapping[str, Start], folder: Path) -> None:
    for name, start in starts.items():
        if start.statistics is not None:
            if name:
                log.info("head `%s`: %d training frames", name, len(start.train))
            log_statistics(start.statistics, start.model.config.r_max)
            store_statistics(start.statistics, start.model.config.r_max, folder / own_file(STATISTICS_FILE, name))


def _check_folder(folder: Path, resume: bool, heads: Sequence[str]) -> None:
    statistics = {own_file(name, head) for name in (STATISTICS_FILE, f"{STATISTICS_FILE}.tmp") for head in heads}
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= LEFT_BY_A_STOPPED_START | statistics:
        return  # stopped before there was anything to resume from
    if resume and not (folder / RESUME_FILE).is_file():
        raise FileNotFoundError(f"nothing to resume: `{folder}` has no `{RESUME_FILE}`; start without `--resume`")
    if not resume and folder.exists():
        raise ValueError(
            f"`{folder}` exists already and is kept as it is; go on with it with `--resume`, or name another folder"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / "history.csv.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"cannot write in `{folder}`: {error.strerror}; name another output folder") from error


def _fit(
    module: TrainingModule,
    batches: InterleavedBatches,
    keeper: Keeper,
    callbacks: list[Callback],
    place: tuple[str, int],
    resume: bool,
) -> None:
    """place: the kind of device, and how many of them on each node."""
    device, n_devices = place
    run = module.config.run
    rounds = Rounds(batches, module)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    is_alone = n_devices * run.num_nodes == 1
    if not is_alone:
        find_mpi()  # where mpi4py is installed Lightning imports it, which fails if it does not find its library
    trainer = lightning.Trainer(
        accelerator=device,
        devices=n_devices,
        num_nodes=run.num_nodes,
        strategy="auto" if is_alone else DDPStrategy(broadcast_buffers=False),
        plugins=[LightningEnvironment()] if is_alone else None,  # so that no others are looked for
        # The module counts both: with `max_steps` Lightning skips an epoch when a run goes on, and with `max_epochs` it
        # has a mistake of its own for a run that has more of them behind it.
        max_epochs=-1,
        max_steps=-1,
        logger=TensorBoardLogger(keeper.folder, name="tensorboard", version=""),
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=len(rounds),
    )
    for each in (batches, keeper.validation):
        each.deal_out(trainer.global_rank, trainer.world_size)
    if trainer.is_global_zero:
        log.info(
            "training %d weights on %s%s",
            sum(w.numel() for w in module.average.weights),
            device,
            f" in {trainer.world_size} processes" if trainer.world_size > 1 else "",
        )
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 beside torch 2.13 says this of its own code
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
            trainer.fit(module, rounds, ckpt_path=keeper.folder / RESUME_FILE if resume else None, weights_only=True)
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt("stopped; go on with `--resume`") from error
    module.to(device)  # Lightning leaves it on the CPU


def _finish(module: TrainingModule, frames: Mapping[str, FrameSets], folder: Path, draw: bool) -> TrainResult:
    """Evaluate the best models, draw, and say what was made."""
    return TrainResult(
        output_dir=folder,
        history=folder / HISTORY_FILE,
        steps=module.steps,
        epochs=module.steps / module.steps_per_epoch,
        seconds=module.clock.seconds(),
        heads={name: _result_of_head(module, name, sets.validation, folder, draw) for name, sets in frames.items()},
    )


def _result_of_head(module: TrainingModule, name: str, frames: Sequence[Frame], folder: Path, draw: bool) -> HeadResult:
    """frames: to validate on."""
    best = folder / own_file("best.safetensors", name)
    predictions = predict_frames(load_model(best).to(module.device), frames, module.config.run.batch_size)
    pictures = [folder / own_file(picture, name) for picture in ("learning_curve.png", "parity.png")] if draw else []
    if draw:
        draw_learning_curve([row_of_head(row, name) for row in module.history], pictures[0])
        draw_parity(frames, predictions, pictures[1])
    return HeadResult(
        best_model=best,
        last_model=folder / own_file("last.safetensors", name),
        pictures=tuple(pictures),
        validation=error_table(frames, predictions),
    )
