"""The data that a figure or table of a finding shows; drawing is the business of `figures`. NumPy only."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Series:
    """One line, cloud or row of bars: `x` and `y` of equal length."""

    name: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class EvidencePlot:
    """Data of a figure, small enough to send to a browser."""

    kind: Literal["scatter", "line", "bar"]
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    log_y: bool = False


@dataclass(frozen=True)
class EvidenceTable:
    """A small table that a person reads."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


View = EvidencePlot | EvidenceTable


def thinned(x: np.ndarray, y: np.ndarray, points: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """At most so many evenly spaced points, as float32: enough for a figure."""
    step = max(1, -(-len(x) // points))
    return np.asarray(x)[::step].astype(np.float32), np.asarray(y)[::step].astype(np.float32)


def scatter(title: str, x_title: str, y_title: str, name: str, x: np.ndarray, y: np.ndarray) -> EvidencePlot:
    """A cloud of points, thinned."""
    return EvidencePlot("scatter", title, x_title, y_title, (Series(name, *thinned(x.ravel(), y.ravel())),))
