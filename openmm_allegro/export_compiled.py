"""A model file to a package that AOTInductor compiled, which nequip's programs run without TorchScript.

Symbols used in this file
    n  atoms        e  pairs, from both ends
"""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.export import Dim

from openmm_allegro.checkpoint import dtype_of
from openmm_allegro.compiled_graph import CompiledGraph
from openmm_allegro.config import AllegroConfig
from openmm_allegro.device import chosen_device
from openmm_allegro.ensemble_file import load_for_dynamics
from openmm_allegro.export_graph import graph_metadata

Program = Literal["ase", "lammps"]
ENDING = ".nequip.pt2"
"""By which nequip's programs know how to read a file."""
INPUTS: dict[Program, tuple[str, ...]] = {
    "ase": ("pos", "edge_index", "atom_types", "cell", "edge_cell_shift"),
    "lammps": ("pos", "edge_index", "atom_types"),
}
OUTPUTS: dict[Program, tuple[str, ...]] = {
    "ase": ("atomic_energy", "total_energy", "forces", "stress"),
    "lammps": ("atomic_energy", "forces", "virial"),
}


def export_compiled(
    model_path: Path | str, output: Path | str, program: Program, precision: str = "single", device: str = "cpu"
) -> dict[str, object]:
    """Compile a model, or the mean of an ensemble, for nequip's ASE calculator or for LAMMPS' `pair_style allegro`.

    It runs on the kind of device that it is compiled for, which takes a minute or more and a C++ compiler. Returns
    what was written, for a reader.
    """
    output = Path(output)
    if not output.name.endswith(ENDING):
        raise ValueError(f"`output` is `{output}`, but nequip's programs read compiled files that end in `{ENDING}`")
    model = load_for_dynamics(model_path, dtype_of(precision))
    where = chosen_device(device)
    metadata = graph_metadata(model.config, model.dtype)
    metadata |= {"nequip_aoti_inputs": " ".join(INPUTS[program]), "nequip_aoti_outputs": " ".join(OUTPUTS[program])}
    graph = CompiledGraph(model).eval().to(where)
    fields = [tensor.to(where) for tensor in example(model.config)[: len(INPUTS[program])]]
    n, e = Dim("n", min=2), Dim("e", min=2)
    shapes = [{0: n}, {1: e}, {0: n}, None, {0: e}][: len(fields)]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, of its internals
        exported = torch.export.export(graph, (fields,), dynamic_shapes=(shapes,), strict=False)
        package = torch._inductor.aoti_compile_and_package(
            exported,
            package_path=str(Path(folder) / "model.pt2"),
            inductor_configs={"aot_inductor.metadata": metadata},
        )
        os.replace(package, output)
    return {"file": output, "program": program, "device": str(where), "precision": precision}


def example(config: AllegroConfig) -> list[Tensor]:
    """Some system with neighbours, the fields in the order of `INPUTS`; the compiled model takes any other."""
    positions = torch.cartesian_prod(*[torch.arange(3, dtype=torch.float64)] * 3) * (0.7 * config.r_max)
    types = torch.arange(len(positions)) % len(config.type_names)
    apart = (positions.unsqueeze(0) - positions.unsqueeze(1)).norm(dim=2)
    edges = torch.nonzero((apart > 0) & (apart < config.r_max)).t().contiguous()
    cell = 10 * config.r_max * torch.eye(3, dtype=torch.float64).unsqueeze(0)
    return [positions, edges, types, cell, torch.zeros((edges.shape[1], 3), dtype=torch.float64)]
