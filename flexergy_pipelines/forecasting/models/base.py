"""What every model gets and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flexergy_pipelines.forecasting.features import Inputs, Rows, feature_matrix
from flexergy_pipelines.forecasting.timegrid import known_until

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats


@dataclass(frozen=True)
class Table:
    """Rows with their features and, where it is known by now, the truth.

    Attributes
    ----------
    rows : Rows
        Issue and valid times.
    names : tuple of str
        Feature names, one per column of `X`.
    X : ndarray, shape (n, p)
        Features, NaN where not known.
    y : ndarray, shape (n,)
        Measured values in the unit of the target, NaN where there are none.
    """

    rows: Rows
    names: tuple[str, ...]
    X: Floats
    y: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: np.ndarray) -> Table:
        return Table(self.rows.take(index), self.names, self.X[index], self.y[index])

    def column(self, name: str) -> Floats:
        """One feature; NaN throughout when the table does not have it."""
        if name not in self.names:
            return np.full(len(self), np.nan)
        return self.X[:, self.names.index(name)]


def make_table(inputs: Inputs, rows: Rows) -> Table:
    """Features and truths of `rows`."""
    names, matrix = feature_matrix(rows, inputs)
    return Table(rows, tuple(names), matrix, inputs.series.at(rows.valid))


def training_part(table: Table, inputs: Inputs, cutoff: int, max_rows: int, seed: int) -> Table:
    """The rows whose truth was known at `cutoff`, thinned evenly at random to `max_rows`."""
    end = int(known_until(np.array([cutoff], dtype=np.int64), inputs.target)[0])
    usable = np.flatnonzero(
        (table.rows.valid + inputs.series.step <= end) & (table.rows.issue <= cutoff) & np.isfinite(table.y)
    )
    if usable.size > max_rows:
        usable = np.sort(np.random.default_rng(seed).choice(usable, max_rows, replace=False))
    return table.take(usable)


class Model(Protocol):
    """One way to forecast a target."""

    name: str

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        """Learn from `table`; `inputs` holds nothing newer than the table's knowledge."""
        ...

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        """Forecast each row; NaN where the model has no answer. `inputs` may be asked only through its gate."""
        ...
