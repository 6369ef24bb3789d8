"""What the spreads of two kinds of ensemble are worth at 600 K, for models trained on 3BPA at 300 K.

Usage: OMP_NUM_THREADS=1 python tests/benchmarks/uncertainty.py DATA [--minutes 3] [--deep-minutes 2] [--output folder]
DATA is a folder that holds `3bpa` of the BOTNet datasets (Kovács et al. 2021; MIT licence). Trains one model for a
last-layer ensemble and three for a deep one, calibrates both on the first 100 frames of test_300K, and prints what
`openmm-allegro evaluate` says of the first 300 frames of test_600K, as JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from openmm_allegro.ensemble_file import load_ensemble, save_ensemble
from openmm_allegro.training.calibration import compare, likeliest_factors, spreads_of_frames, uncertainty_table
from openmm_allegro.training.calibration_picture import draw_reliability
from openmm_allegro.training.config import load_config
from openmm_allegro.training.data import read_frames
from openmm_allegro.training.ensembles import make_ensemble_file
from openmm_allegro.training.last_layer import LastLayerOptions
from openmm_allegro.training.run import train

TOML = """
[data]
train = "3bpa/train_300K.xyz.xz"
n_validation = 50
seed = 1
[model]
r_max = 5.0
l_max = 2
num_layers = 2
num_scalar_features = 32
num_tensor_features = 16
[optimizer]
lr = 0.01
schedule = "cosine"
[run]
batch_size = 5
validate_every = 5
max_time_minutes = {minutes}
seed = {seed}
num_threads = 1
device = "cpu"
"""


def main() -> None:
    """Train what is not in the folder yet, make both ensembles, print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="training of the model of the last-layer ensemble")
    parser.add_argument("--deep-minutes", type=float, default=2.0, help="training of each of the three others")
    parser.add_argument("--output", type=Path, default=Path("uncertainty"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    one = trained(options.output, options.data, options.minutes, seed=1)
    three = [trained(options.output, options.data, options.deep_minutes, seed) for seed in (11, 12, 13)]
    files = [options.data / "3bpa" / f"{name}.xyz.xz" for name in ("train_300K", "test_300K", "test_600K")]
    ensembles: dict[str, Callable[[Path], object]] = {
        "deep": lambda path: make_ensemble_file(three, path),
        "last_layer": lambda path: make_ensemble_file([one], path, last_layer=LastLayerOptions(), train=files[:1]),
    }
    validation, test = read_frames(files[1])[:100], read_frames(files[2])[:300]
    figures = {}
    for name, make in ensembles.items():
        path, started = options.output / f"{name}.safetensors", time.perf_counter()
        make(path)
        made = time.perf_counter() - started
        ensemble = load_ensemble(path)
        ensemble.factors = likeliest_factors(compare(validation, spreads_of_frames(ensemble, validation)))
        save_ensemble(ensemble, path)
        spreads = spreads_of_frames(ensemble, test)
        draw_reliability(compare(test, spreads), options.output / f"{name}.png")
        table = uncertainty_table(ensemble, test, spreads).as_dict()
        figures[name] = {"seconds_to_make": made, "factors": ensemble.factors._asdict(), **table}
    print(json.dumps(figures, indent=2))


def trained(folder: Path, data: Path, minutes: float, seed: int) -> Path:
    """The best model of a training, which is done unless the folder has it."""
    run = folder / f"seed-{seed}"
    if not (run / "best.safetensors").is_file():
        path = folder / f"seed-{seed}.toml"
        path.write_text(TOML.format(minutes=minutes, seed=seed))
        train(load_config(path, data), run, pictures=False)
    return run / "best.safetensors"


if __name__ == "__main__":
    main()
