"""How often each of several kinds occurs: units of a network, compositions of a shell, sizes of a cluster.

Symbols used in this file
    k  kinds     m  blocks of frames
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import plain
from openmm_allegro.analysis.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN = 10


@dataclass(frozen=True)
class Shares:
    """Fractions of kinds, the most frequent first; they add up to one."""

    kinds: tuple[str, ...]
    fraction: np.ndarray
    """(k,)"""
    error: np.ndarray
    """Standard error from blocks of frames, (k,); nan with one block."""

    @classmethod
    def of(cls, blocks: Sequence[Counter[str]]) -> "Shares":
        """From what was counted in each block of frames, in the order of the counts."""
        together: Counter[str] = sum(blocks, Counter())
        kinds = tuple(kind for kind, _ in together.most_common())
        counts = np.array([[block[kind] for kind in kinds] for block in blocks], dtype=np.float64)  # (m, k)
        totals = counts.sum(axis=1, keepdims=True)
        of_blocks = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
        fraction = counts.sum(axis=0) / max(1, together.total())
        return cls(kinds, fraction, standard_errors(of_blocks[totals[:, 0] > 0]))

    def share(self, kind: str) -> Measured:
        """Of one kind; zero where it never occurred, without doubt where there are blocks; nan where nothing did."""
        if not self.kinds:
            return Measured(float("nan"))
        if kind not in self.kinds:
            return Measured(0.0, 0.0 if np.isfinite(self.error).all() else float("nan"))  # as of equal blocks
        k = self.kinds.index(kind)
        return Measured(float(self.fraction[k]), float(self.error[k]))

    def figures(self, before: str, after: str = "_fraction") -> dict[str, Measured]:
        """Every share by the name that a figure has, `before` KIND `after`."""
        return {f"{before}{plain(kind)}{after}": self.share(kind) for kind in self.kinds}

    def figure(self, name: str, before: str, after: str = "_fraction") -> Measured | None:
        """One of them by its name, of kinds that never occurred too; None where it is no such name."""
        if not (name.startswith(before) and name.endswith(after)):
            return None
        return self.figures(before, after).get(name) or self.share(name)

    def by_number(self, first: int, x_label: str, y_label: str) -> Curve:
        """Fractions where kinds are numbers, from `first` to one above the largest, as none is larger."""
        n = np.arange(first, 2 + max(int(kind) for kind in self.kinds))
        fraction, error = np.array([self.share(str(number)) for number in n]).T
        return Curve(n.astype(np.float64), fraction, error, x_label, y_label, outside=0.0)

    def write_csv(self, path: str | Path, column: str) -> Path:
        kinds = np.array(self.kinds, dtype=object)
        return write_table(path, {column: kinds, "fraction": self.fraction, "fraction_error": self.error})

    def draw(self, axes: "Axes", title: str, label: str | None = None) -> None:
        """Bars of the most frequent kinds, the first on top."""
        shown = min(MOST_DRAWN, len(self.kinds))
        errors = np.nan_to_num(self.error[:shown])
        axes.barh(np.arange(shown), self.fraction[:shown], xerr=errors, height=0.7, label=label, alpha=0.8)
        axes.set_yticks(np.arange(shown), self.kinds[:shown])
        axes.set_ylim(shown - 0.4, -0.6)
        axes.set_xlim(left=0.0)
        axes.set_xlabel(f"fraction of {title}")
        if shown < len(self.kinds):
            rest = f"{len(self.kinds) - shown} others: {self.fraction[shown:].sum():.2g}"
            axes.text(0.98, 0.03, rest, transform=axes.transAxes, ha="right")
        if label is not None:
            axes.legend(frameon=False)
