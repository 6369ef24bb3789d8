"""The one place that writes numbers to CSV files."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def write_table(path: str | Path, columns: Mapping[str, Sequence[float] | Sequence[str] | np.ndarray]) -> Path:
    """Write equally long columns under their names, which carry the units of numbers; complete or not at all."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".tmp")
    with open(unfinished, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(value if isinstance(value, str) else f"{value:.10g}" for value in row)
    os.replace(unfinished, path)
    return path
