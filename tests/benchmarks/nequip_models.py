"""Models of nequip-allegro over its options, trained for a few steps by its own commands; run by `conversion.py`.

    python nequip_models.py FOLDER NAME...

runs with any nequip-allegro from 0.5 on, whose packages are all that this file needs. For each NAME of `MODELS` a
folder gets `last.ckpt`, `model.nequip.zip`, `model.nequip.pth`, `frame.extxyz` and what nequip's own ASE calculator
says of that frame, `nequip.json`.
"""

import inspect
import json
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import ase.io
import numpy as np
import yaml
from ase.calculators.singlepoint import SinglePointCalculator
from omegaconf import OmegaConf

ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": ["H", "O"]}
SPLINE = {"_target_": "allegro.nn.TwoBodySplineScalarEmbed", "num_splines": 8, "spline_span": 6}
BESSEL = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed"}
TRAINABLE = BESSEL | {"num_bessels": 6, "bessel_trainable": True, "polynomial_cutoff_p": 5}
CUTOFFS = {"H": {"O": 3.0}, "O": 3.5}

MODELS: dict[str, dict[str, object]] = {
    "0.5-plain": {"l_max": 2, "tp_path_channel_coupling": False, "model_dtype": "float64"},
    "0.5-zbl": {"radial_chemical_embed": TRAINABLE, "pair_potential": ZBL},
    "0.6-spline": {"radial_chemical_embed": SPLINE, "parity": False, "num_layers": 3, "model_dtype": "float64"},
    "0.6-trained-energies": {"per_type_energy_scales_trainable": True, "per_type_energy_shifts_trainable": True},
    "0.7-three-layers": {"num_layers": 3, "radial_chemical_embed": BESSEL | {"polynomial_cutoff_p": 8}},
    "0.7-cutoffs": {"per_edge_type_cutoff": CUTOFFS, "model_dtype": "float64", "pair_potential": ZBL},
    "0.8.0-one-layer": {"num_layers": 1, "l_max": 3, "model_dtype": "float64"},
    "0.8.0-linear": {"allegro_mlp_nonlinearity": None, "allegro_mlp_hidden_layers_depth": 2, "l_max": 2},
    "0.8.3-neighbours": {"avg_num_neighbors": {"H": 9.0, "O": 14.0}, "pair_potential": ZBL, "model_dtype": "float64"},
    "0.8.3-water": {"l_max": 2, "num_tensor_features": 32},
}
RELEASE = tuple(int(part) for part in version("nequip").split(".")[:2])
COMMON: dict[str, object] = {
    "_target_": "allegro.model.AllegroModel",
    "seed": 1,
    "model_dtype": "float32",
    "type_names": ["H", "O"],
    "r_max": 4.0,
    "l_max": 1,
    "num_layers": 2,
    "num_scalar_features": 64,
    "num_tensor_features": 16,
    "scalar_embed_mlp_hidden_layers_width": 64,
    "allegro_mlp_hidden_layers_width": 64,
    "readout_mlp_hidden_layers_width": 32,
    "avg_num_neighbors": 12.0,
    "per_type_energy_scales": [0.7, 1.3] if RELEASE < (0, 8) else {"H": 0.7, "O": 1.3},
    "per_type_energy_shifts": [-1.0, -5.0] if RELEASE < (0, 8) else {"H": -1.0, "O": -5.0},
    "radial_chemical_embed": BESSEL,
}


def main(folder: Path, names: list[str]) -> None:
    """Make the models of these names."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    for name in names:
        make(folder / name, COMMON | MODELS[name], moving_average=name != "0.8.3-neighbours")


def make(folder: Path, model: dict[str, object], moving_average: bool) -> None:
    """Train, package and compile a model, and evaluate it."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = random_frames(8)
    ase.io.write(folder / "frames.extxyz", frames)
    ase.io.write(folder / "frame.extxyz", frames[0])
    (folder / "train.yaml").write_text(yaml.safe_dump(training(folder.resolve(), model, moving_average)))
    OmegaConf.clear_resolvers()  # which nequip registers at each training
    run("train", ["-cp", str(folder.resolve()), "-cn", "train", f"hydra.run.dir={folder.resolve()}"])
    checkpoint, package, script = (str(folder / name) for name in ("last.ckpt", "model.nequip.zip", "model.nequip.pth"))
    if RELEASE >= (0, 9):
        run("package", ["build", checkpoint, package])
        run("compile", [checkpoint, script, "--mode", "torchscript", "--device", "cpu"])
    else:
        named = ["--ckpt-path", checkpoint, "--output-path", package]
        run("package", named if RELEASE < (0, 8) else ["build", *named])
        run(
            "compile", ["--input-path", checkpoint, "--output-path", script, "--mode", "torchscript", "--device", "cpu"]
        )
    atoms = ase.io.read(folder / "frame.extxyz")  # as it was rounded
    atoms.calc = calculator(script)
    said = {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces().tolist()}
    said["nequip"], said["allegro"] = version("nequip"), version("nequip-allegro")
    (folder / "nequip.json").write_text(json.dumps(said))


def random_frames(n_frames: int) -> list[ase.Atoms]:
    """Hydrogen and oxygen on a jittered lattice, with random labels."""
    generator = np.random.default_rng(0)
    sites = 2.0 * np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)
    frames = []
    for _ in range(n_frames):
        positions = sites + generator.normal(0, 0.15, sites.shape)
        symbols = ["O" if number % 3 == 0 else "H" for number in range(len(sites))]
        atoms = ase.Atoms(symbols, positions, cell=[[6.0, 0, 0], [0.3, 6.1, 0], [0, 0.2, 6.2]], pbc=True)
        forces = generator.normal(0, 1, sites.shape)
        atoms.calc = SinglePointCalculator(atoms, energy=float(-100 + generator.normal()), forces=forces)
        frames.append(atoms)
    return frames


def training(folder: Path, model: dict[str, object], moving_average: bool) -> dict[str, object]:
    """The configuration of nequip's training: two epochs of four steps."""
    kind = {"_target_": "nequip.train.NequIPLightningModule"}
    if moving_average:
        kind = {"_target_": "nequip.train.EMALightningModule", "ema_decay": 0.9}
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": 1}
    return {
        "run": ["train"],
        "global_options": {"allow_tf32": False},
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 1,
            "split_dataset": {"file_path": str(folder / "frames.extxyz"), "train": 4, "val": 2, "test": 2},
            "transforms": [
                {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", **types_of_elements()},
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": 4.0},
            ],
            "train_dataloader": loader,
            "val_dataloader": loader,
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_epochs": 2,
            "enable_progress_bar": False,
            "logger": False,
            "callbacks": [
                {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": str(folder), "save_last": True}
            ],
        },
        "training_module": {
            **kind,
            "loss": {"_target_": "nequip.train.EnergyForceLoss", "coeffs": {"total_energy": 1.0, "forces": 1.0}},
            "val_metrics": {"_target_": "nequip.train.EnergyForceMetrics", "coeffs": {"forces_mae": 1.0}},
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "model": model,
        },
    }


def types_of_elements() -> dict[str, object]:
    """The option that tells nequip's data which type an element is, by the version that is here."""
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper

    if "chemical_species_to_atom_type_map" in inspect.signature(ChemicalSpeciesToAtomTypeMapper.__init__).parameters:
        return {"model_type_names": ["H", "O"], "chemical_species_to_atom_type_map": {"H": "H", "O": "O"}}
    return {"chemical_symbols": ["H", "O"]}


def run(command: str, words: list[str]) -> None:
    """A command of nequip, in this process."""
    sys.argv = [f"nequip-{command}", *words]
    import_module(f"nequip.scripts.{command}").main()


def calculator(script: str) -> object:
    """Nequip's ASE calculator of a compiled model."""
    try:
        from nequip.integrations.ase import NequIPCalculator
    except ImportError:
        from nequip.ase import NequIPCalculator
    return NequIPCalculator.from_compiled_model(script, device="cpu")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
