"""Regularised linear regression, one per local hour: strong where loads and prices follow their own past smoothly."""

# ruff: noqa: ARG002 - one interface for all models; not every model needs all that it is given
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.models.lightgbm import aligned

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats

MIN_ROWS = 60


class LinearByHour:
    """Ridge regression on standardised features for each of 24 hours of the day.

    Weekday enters as dummies. The penalty is the one of a few with the least generalised cross-validation error [1]_.

    References
    ----------
    .. [1] G. Golub, M. Heath, G. Wahba, "Generalized cross-validation as a method for choosing a good ridge
       parameter", Technometrics 21(2), 1979.
    """

    name = "linear"

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.weights: dict[int, tuple[Floats, Floats, Floats, float]] = {}
        self.median: Floats = np.empty(0)

    def _design(self, table: Table) -> tuple[Floats, np.ndarray]:
        X = aligned(table, self.names)
        hour = np.nan_to_num(table.column("hour")).astype(int) % 24
        weekday = np.nan_to_num(table.column("weekday")).astype(int)
        kind = np.nan_to_num(table.column("day_type")).astype(int)
        dummies = np.column_stack([weekday[:, None] == np.arange(7), kind[:, None] == np.arange(3)]).astype(float)
        filled = np.where(np.isfinite(X), X, self.median)
        return np.column_stack([filled, dummies]), hour

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        if len(table) < MIN_ROWS:
            raise ValueError(f"{inputs.target.name}: {len(table)} usable rows, {MIN_ROWS} needed for regression")
        self.names = table.names
        self.median = _medians(table.X)
        design, hour = self._design(table)
        for h in range(24):
            chosen = hour == h
            if chosen.sum() < MIN_ROWS:
                chosen = np.ones(len(table), dtype=bool)
            self.weights[h] = _ridge(design[chosen], table.y[chosen])

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        design, hour = self._design(table)
        out = np.full(len(table), np.nan)
        for h, (mean, scale, beta, intercept) in self.weights.items():
            chosen = hour == h
            # far outside the range of the training data a line says nothing
            standard = np.clip((design[chosen] - mean) / scale, -5.0, 5.0)
            out[chosen] = standard @ beta + intercept
        return out


def _medians(X: Floats) -> Floats:
    good = np.isfinite(X).any(axis=0)
    out = np.zeros(X.shape[1])
    out[good] = np.nanmedian(X[:, good], axis=0)
    return out


def _ridge(X: Floats, y: Floats) -> tuple[Floats, Floats, Floats, float]:
    mean, scale = X.mean(axis=0), X.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    Z = (X - mean) / scale
    centre = float(y.mean())
    # the eigenvectors of the Gram matrix cost a fraction of the SVD of the tall matrix
    moment = Z.T @ (y - centre)
    eigenvalues, vectors = np.linalg.eigh(Z.T @ Z)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    along = vectors.T @ moment
    n, total = y.size, float(((y - centre) ** 2).sum())
    best, chosen = np.inf, float(n)
    for penalty in n * np.array([1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]):
        shrunk = along / (eigenvalues + penalty)
        error = total - 2 * float(shrunk @ along) + float(shrunk**2 @ eigenvalues)
        freedom = float((eigenvalues / (eigenvalues + penalty)).sum()) + 1.0
        if freedom >= n:
            continue
        score = max(error, 0.0) / (1 - freedom / n) ** 2
        if score < best:
            best, chosen = score, float(penalty)
    beta = vectors @ (along / (eigenvalues + chosen))
    return mean, scale, beta, centre
