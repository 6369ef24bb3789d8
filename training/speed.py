"""How many frames a second training takes in: here, and by nequip with the same model on the same frames."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase
import ase.io
import lightning.pytorch as lightning
import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from lightning.pytorch.callbacks import Callback

from openmm_allegro.bench.config import BenchConfig
from openmm_allegro.bench.machine import machine, versions
from openmm_allegro.bench.peers import check_installed, nequip_options
from openmm_allegro.checkpoint import DTYPES
from openmm_allegro.config import AllegroConfig
from openmm_allegro.device import chosen_device
from openmm_allegro.options import checked
from openmm_allegro.training.config import TrainingConfig
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.run import train

log = logging.getLogger(__name__)
SECONDS_FILE = "seconds.json"
LONGEST_PEER_RUN = 3600
"""[s]."""


class StepClock(Callback):
    """Notes when each step ends; nequip's configuration names it too, so both are timed alike."""

    def __init__(self, folder: str) -> None:
        """folder: where the seconds between the ends of steps are written at the end of the run."""
        self.folder = Path(folder)
        self.ends: list[float] = []

    def on_train_batch_end(self, *arguments: object, **more: object) -> None:
        """A step has ended, with its data loading, metrics and moving average."""
        self.ends.append(time.perf_counter())

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the times for whoever started the run."""
        (self.folder / SECONDS_FILE).write_text(json.dumps(np.diff(self.ends).tolist()), encoding="utf-8")


def training_speed(config: BenchConfig) -> dict[str, object]:
    """Train for some steps and return frames per second by name; with a peer, which runs between two runs of ours.

    Both read the same frames, validate none, and start with steps that are not counted. The rate is that of all counted
    steps together; quartiles are of single steps.
    """
    assert config.data is not None
    if config.peer is not None:
        check_installed(config.peer)
    frames = [frame for frame in read_frames(config.data) if frame.energy is not None and frame.forces is not None]
    if len(frames) <= config.batch_size:
        raise ValueError(
            f"`{config.data}` has {len(frames)} frames with energy and forces, but a batch is {config.batch_size} and "
            "one more is held back; name a larger file or a smaller `batch_size`"
        )
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ase.io.write(folder / "frames.xyz", [labelled_atoms(frame) for frame in frames], format="extxyz")
        seconds = _own_seconds(config, folder / "first")
        peer_seconds: list[float] = []
        if config.peer is not None:
            log.info("training with nequip in a process of its own")
            peer_seconds = _peer_seconds(config, frames, folder)
            seconds += _own_seconds(config, folder / "second")
    ours = _rates(seconds, config.batch_size)
    theirs = _rates(peer_seconds, config.batch_size) if peer_seconds else {}
    return {
        **ours,
        "peer": config.peer,
        **{f"peer_{name}": value for name, value in theirs.items()},
        "times_faster": ours["frames_per_second"] / theirs["frames_per_second"] if theirs else None,
        "batch_size": config.batch_size,
        "frames": len(frames),
        "atoms_per_frame": float(np.mean([len(frame.numbers) for frame in frames])),
        "l_max": config.l_max,
        "layers": config.layers,
        "scalars": config.scalars,
        "channels": config.channels,
        "cutoff": config.cutoff,
        "precision": config.precision,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "machine": machine(chosen_device(config.device)),
    }


def _rates(seconds: Sequence[float], batch_size: int) -> dict[str, float]:
    slow, middle, fast = (batch_size / s for s in np.percentile(seconds, [75, 50, 25]))
    return {
        "frames_per_second": batch_size * len(seconds) / float(np.sum(seconds)),
        "frames_per_second_lower_quartile": float(slow),
        "frames_per_second_median": float(middle),
        "frames_per_second_upper_quartile": float(fast),
        "steps": len(seconds),
    }


def labelled_atoms(frame: Frame) -> ase.Atoms:
    """A frame with its energy and forces as ASE keeps them."""
    atoms = frame.atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
    return atoms


def _own_seconds(config: BenchConfig, folder: Path) -> list[float]:
    """Seconds of each counted step of our own training."""
    clock_folder = folder.with_name(folder.name + "-clock")
    clock_folder.mkdir()
    options = checked(own_table(config, folder.parent / "frames.xyz"), TrainingConfig)
    train(options, folder, pictures=False, callbacks=[StepClock(str(clock_folder))])
    return json.loads((clock_folder / SECONDS_FILE).read_text())[config.warmup - 1 :]


def own_table(config: BenchConfig, data: Path) -> dict[str, object]:
    """Our own configuration for the model, batch and steps asked for."""
    return {
        "data": {"train": data, "n_validation": 1, "seed": config.seed},
        "model": {
            "r_max": config.cutoff,
            "l_max": config.l_max,
            "num_layers": config.layers,
            "num_scalar_features": config.scalars,
            "num_tensor_features": config.channels,
        },
        "run": {
            "batch_size": config.batch_size,
            "max_steps": config.warmup + config.steps,
            "validate_every": config.warmup + config.steps,
            "device": config.device,
            "precision": "float64" if config.precision == "double" else "float32",
        },
    }


def _peer_seconds(config: BenchConfig, frames: Sequence[Frame], folder: Path) -> list[float]:
    """Seconds of each counted step of `nequip-train`."""
    symbols = sorted({symbol for frame in frames for symbol in frame.symbols})
    text = json.dumps(nequip_table(config, symbols, len(frames), folder))  # JSON is YAML
    (folder / "nequip.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-P", "-c", "from nequip.scripts.train import main; main()"]
    command += ["-cp", str(folder), "-cn", "nequip", f"hydra.run.dir={folder / 'nequip'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST_PEER_RUN)
    if not (folder / SECONDS_FILE).is_file():
        raise RuntimeError(f"nequip-train did not finish: {(done.stderr or done.stdout).strip()[-800:]}")
    return json.loads((folder / SECONDS_FILE).read_text())[config.warmup - 1 :]


def nequip_table(config: BenchConfig, symbols: Sequence[str], n_frames: int, folder: Path) -> dict[str, object]:
    """The configuration of `nequip-train` for the same model, batch and frames."""
    options = checked(own_table(config, folder / "frames.xyz"), TrainingConfig)
    own_options: dict[str, object] = {"type_names": list(symbols), "avg_num_neighbors": 1.0, **options.model}
    own_config = checked(own_options, AllegroConfig)
    model = nequip_options(own_config, DTYPES[options.run.precision]) | {
        "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
        "per_type_energy_shifts": "${training_data_stats:per_atom_energy_mean}",
        "per_type_energy_scales": "${training_data_stats:forces_rms}",
    }
    data = {"split_dataset": {"file_path": str(folder / "frames.xyz"), "train": n_frames - 1, "val": 1}}
    limits: dict[str, object] = {
        "max_steps": config.warmup + config.steps,
        "accelerator": chosen_device(config.device).type,
        "check_val_every_n_epoch": 1 + -(-(config.warmup + config.steps) * config.batch_size // (n_frames - 1)),
        "enable_checkpointing": False,
        "callbacks": [{"_target_": f"{__name__}.StepClock", "folder": str(folder)}],
    }
    return nequip_training(model, own_config, data, config.batch_size, limits)


def nequip_training(
    model: Mapping[str, object],
    config: AllegroConfig,
    data: Mapping[str, object],
    batch_size: int,
    limits: Mapping[str, object],
) -> dict[str, object]:
    """A configuration of `nequip-train`: Adam 0.002, per-atom energies and forces 1:1, moving average.

    model: as nequip builds it, of the hyperparameters `config`; data: its files; limits: how long its trainer goes on,
    where, and with which callbacks.
    """
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": batch_size}
    names = list(config.type_names)
    transforms = [
        {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": names},
        {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": config.r_max},
    ]
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 1,
            **data,
            "transforms": transforms,
            "train_dataloader": {**loader, "shuffle": True},
            "val_dataloader": loader,
            "stats_manager": {"_target_": "nequip.data.CommonDataStatisticsManager", "type_names": names},
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "logger": False,
            **limits,
        },
        "training_module": {
            "_target_": "nequip.train.EMALightningModule",
            "loss": {
                "_target_": "nequip.train.EnergyForceLoss",
                "per_atom_energy": True,
                "coeffs": {"total_energy": 1.0, "forces": 1.0},
            },
            "val_metrics": {
                "_target_": "nequip.train.EnergyForceMetrics",
                "coeffs": {"per_atom_energy_mae": 1.0, "forces_mae": 1.0},
            },
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.002},
            "model": model,
        },
        "global_options": {"allow_tf32": False},
    }
