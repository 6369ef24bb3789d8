"""A model file to a TorchScript file that nequip's programs read: `NequIPCalculator`, LAMMPS' `pair_style allegro`."""

import json
from pathlib import Path

import torch

from openmm_allegro.checkpoint import dtype_of, write_whole
from openmm_allegro.config import AllegroConfig
from openmm_allegro.ensemble_file import load_for_dynamics
from openmm_allegro.graph import GraphPotential
from openmm_allegro.torchscript import script, script_bytes

ENDING = ".nequip.pth"
"""By which nequip's programs know how to read a file."""


def export_graph(model_path: Path | str, output: Path | str, precision: str = "single") -> dict[str, object]:
    """Write a model, or the mean of an ensemble, for any system of its elements.

    Numbers go in and out in double precision; `precision` is that of the arithmetic. Returns what was written, for a
    reader.
    """
    output = Path(output)
    if not output.name.endswith(ENDING):
        raise ValueError(f"`output` is `{output}`, but nequip's programs read files that end in `{ENDING}`")
    model = load_for_dynamics(model_path, dtype_of(precision))
    extra = graph_metadata(model.config, model.dtype)
    write_whole(output, script_bytes(script(GraphPotential(model)), extra))
    return {"file": output, "type_names": list(model.config.type_names), "precision": precision}


def graph_metadata(config: AllegroConfig, dtype: torch.dtype) -> dict[str, str]:
    """The extra files that nequip's programs read, and our own `metadata.json`."""
    found = {
        "r_max": str(config.r_max),
        "num_types": str(len(config.type_names)),
        "type_names": " ".join(config.type_names),
        "model_dtype": str(dtype).removeprefix("torch."),
        "allow_tf32": "0",
    }
    if config.per_edge_type_cutoff is not None:  # rows by centre
        found["per_edge_type_cutoff"] = " ".join(str(cutoff) for row in config.pair_cutoffs() for cutoff in row)
    ours = {
        "format": "openmm-allegro graph potential",
        "format_version": 1,
        "config": config.model_dump(mode="json"),
        "units": {"length": "angstrom", "energy": "eV"},
        "torch": torch.__version__,
    }
    return found | {"metadata.json": json.dumps(ours)}
