"""Models of nequip-allegro of several versions, converted: how closely they agree with nequip, and how much faster.

Usage: python tests/benchmarks/conversion.py FOLDER [--make PYTHON NAME,NAME] [--repeats 5] [--atoms 192] [--json]
`--make` first makes models of `nequip_models.MODELS` with the nequip that an interpreter has; give it several times,
once for each version. Then every model in the folder is read from its checkpoint, package and TorchScript and held
against what nequip's ASE calculator said of its frame: `dE` and `dF` are the largest relative differences over the
three files. `as it is` and `ours` are seconds for energy and forces of a box of water, by the TorchScript file and
telescoped.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import torch

from openmm import unit  # isort: skip (after torch)

from openmm_allegro import units
from openmm_allegro.atom_types import atom_types
from openmm_allegro.bench.water import water
from openmm_allegro.model import Allegro
from openmm_allegro.nequip.file import converted, read_nequip
from openmm_allegro.potential import Potential
from openmm_allegro.recognise import recognise
from openmm_allegro.scripted import ScriptedPotential, scripted_model

FILES = ("last.ckpt", "model.nequip.zip", "model.nequip.pth")
Frame = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def compare(folder: Path, box: Frame, repeats: int) -> dict[str, object]:
    """Figures of the model in a folder."""
    said = json.loads((folder / "nequip.json").read_text())
    frame = ase.io.read(folder / "frame.extxyz")
    types = torch.tensor([("H", "O").index(symbol) for symbol in frame.get_chemical_symbols()])
    atoms = (torch.tensor(frame.positions), torch.tensor(frame.cell.array), types)
    energy_error = forces_error = 0.0
    for name in FILES:
        model = read(folder / name)
        energy, forces, _ = Potential(model, tabulate=False)(*atoms)
        expected = torch.tensor(said["forces"], dtype=torch.float64)
        energy_error = max(energy_error, abs(float(energy) / said["energy"] - 1))
        forces_error = max(forces_error, float((forces - expected).abs().max() / expected.abs().max()))
    script = scripted_model(folder / "model.nequip.pth", 1.0, 1.0)
    as_it_is = seconds(ScriptedPotential(script), box, repeats)
    ours = seconds(Potential(model), box, repeats)
    return {
        "nequip": said["nequip"],
        "allegro": said["allegro"],
        "dtype": str(model.dtype).removeprefix("torch."),
        "dE": energy_error,
        "dF": forces_error,
        "as_it_is_s": as_it_is,
        "ours_s": ours,
        "speed_up": as_it_is / ours,
    }


def read(path: Path) -> Allegro:
    """A file as a model of ours."""
    found = read_nequip(path, recognise(path))
    return converted(found, None if found.config.zbl else ("eV", "angstrom"), str(path))


def seconds(potential: torch.nn.Module, box: Frame, repeats: int) -> float:
    """Time on the processor for energy and forces, the median after two warming rounds; neighbours are kept."""
    taken = []
    for _ in range(repeats + 2):
        start = time.process_time()
        potential(*box)
        taken.append(time.process_time() - start)
    return float(np.median(taken[2:]))


def water_box(n_atoms: int) -> Frame:
    """Liquid water: positions (n, 3), cell (3, 3) [Å] and types (n,)."""
    box = water(n_atoms)
    cell = np.array(box.topology.getPeriodicBoxVectors().value_in_unit(unit.angstrom))
    types = torch.tensor(atom_types(("H", "O"), box.topology))
    return torch.tensor(box.positions_nm * units.NM_TO_ANGSTROM), torch.tensor(cell), types


def main() -> None:
    """Make what is asked for, then print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", nargs=2, action="append", default=[], metavar=("PYTHON", "NAMES"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--atoms", type=int, default=192)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    script = Path(__file__).with_name("nequip_models.py")
    for python, names in options.make:
        words = [python, "-W", "ignore", str(script), str(options.folder), *names.split(",")]
        subprocess.run(words, check=True, stdout=sys.stderr, env=os.environ | {"OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    box = water_box(options.atoms)
    rows = {
        path.parent.name: compare(path.parent, box, options.repeats)
        for path in sorted(options.folder.glob("*/nequip.json"))
    }
    if options.json:
        print(json.dumps(rows))
        return
    print("| model | nequip, nequip-allegro | dtype | dE | dF | as it is [s] | ours [s] | faster |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        figures = f"{row['dE']:.0e} | {row['dF']:.0e} | {row['as_it_is_s']:.3f} | {row['ours_s']:.4f}"
        versions = f"{row['nequip']}, {row['allegro']}"
        print(f"| {name} | {versions} | {row['dtype']} | {figures} | {row['speed_up']:.0f}× |")


if __name__ == "__main__":
    main()
