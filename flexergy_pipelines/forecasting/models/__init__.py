"""The models, all behind `Model`."""

from __future__ import annotations

from flexergy_pipelines.forecasting.models.base import Model, Table, make_table
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES, Naive

__all__ = ["NAIVE_NAMES", "Model", "Naive", "Table", "make_table"]
