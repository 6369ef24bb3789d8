"""Files that nequip writes of its models, made by its own code."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from openmm_allegro.bench.peers import nequip_options
from openmm_allegro.config import AllegroConfig


@contextmanager
def as_nequip_runs() -> Iterator[None]:
    """Nequip changes the default dtype of the process and warns a good deal; put it back afterwards."""
    before = torch.get_default_dtype()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nequip.utils.global_state import set_global_state

        set_global_state()
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def write_checkpoint(path: Path, config: AllegroConfig, moving_average: bool) -> torch.nn.Module:
    """What Lightning writes of nequip's training module; returns the network that nequip reads from it."""
    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.train import EMALightningModule, NequIPLightningModule

    kind = EMALightningModule if moving_average else NequIPLightningModule
    own = {"ema_decay": 0.9} if moving_average else {}
    about = {
        "versions": {"nequip": "0.19.1"},
        "data": {},
        "training_module": {"_target_": f"nequip.train.{kind.__name__}"},
    }
    options = {
        "model": nequip_options(config, torch.float64),
        "num_datasets": {"train": 1, "val": 1, "test": 0, "predict": 0},
        "info_dict": about,
        **own,
    }
    module = kind(**options)
    if moving_average:  # as after some steps: averages and weights differ
        for number, average in enumerate(module.ema.buffers()):
            average.mul_(1.0 + 0.01 * number)
    content = {"state_dict": module.state_dict(), "hyper_parameters": options, "pytorch-lightning_version": "2.6.0"}
    torch.save(content, path)
    return load_saved_model(path)


def write_package(path: Path, checkpoint: Path) -> None:
    """What `nequip-package` writes of a checkpoint, less the source code of the classes."""
    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.scripts._workflow_utils import set_workflow_state

    set_workflow_state("package")  # nothing is compiled then
    try:
        network = load_saved_model(checkpoint)
    finally:
        set_workflow_state(None)
    text = "atom_types:\n  0: H\nversions:\n  nequip: 0.19.1\n  allegro: 0.8.3\n"
    with torch.package.PackageExporter(path) as exporter:
        exporter.extern("**")
        exporter.save_text("model", "package_metadata.txt", text)
        exporter.save_pickle("model", "eager_model.pkl", torch.nn.ModuleDict({"sole_model": network}))


def write_torchscript(path: Path, network: torch.nn.Module) -> None:
    """What `nequip-compile --mode torchscript` writes."""
    from nequip.model.inference_models.torchscript import save_torchscript_model

    metadata = {name: str(int(value)) if isinstance(value, bool) else value for name, value in network.metadata.items()}
    save_torchscript_model(network, metadata | {"allow_tf32": "0"}, path, torch.device("cpu"))


def nequip_network() -> torch.nn.Module:
    """A NequIP model, whose features travel from atom to atom."""
    from nequip.model import NequIPGNNModel

    return NequIPGNNModel(
        seed=1,
        model_dtype="float64",
        type_names=["H", "O"],
        r_max=4.0,
        num_layers=2,
        l_max=1,
        num_features=4,
        radial_mlp_depth=1,
        radial_mlp_width=8,
        avg_num_neighbors=12.0,
    )


def evaluated(
    network: torch.nn.Module, positions: torch.Tensor, cell: torch.Tensor, types: torch.Tensor, r_max: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energy, forces and virial by nequip's own network and neighbour list, in its units."""
    from nequip.data import compute_neighborlist_, from_dict

    data = from_dict({"pos": positions, "cell": cell, "pbc": torch.tensor([True] * 3), "atom_types": types})
    found = network(compute_neighborlist_(data, r_max=r_max))
    virial = -found["stress"][0] * torch.linalg.det(cell).abs()
    return found["total_energy"].detach().squeeze(), found["forces"].detach(), virial.detach()
