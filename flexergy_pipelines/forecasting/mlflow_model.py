"""The wrapper by which MLflow knows a trained target as a model of its own."""

# ruff: noqa: ARG002 - the signature is that of MLflow
from __future__ import annotations

import pickle
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.pyfunc.model import PythonModel

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.trained import TrainedTarget


class TrainedTargetModel(PythonModel):
    """Forecasts from a history ``time, value`` handed in as a pandas frame, issued at the end of it."""

    trained: TrainedTarget

    def load_context(self, context: Any) -> None:
        self.trained = pickle.loads(Path(context.artifacts["bundle"]).read_bytes())  # noqa: S301 - own artifact

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - the base class returns nothing
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Frame ``time, value, p10..p90``; `params` may hold ``issued_at`` as ISO text."""
        import polars as pl

        from flexergy_pipelines.forecasting.trained import predict

        history = pl.from_pandas(model_input)
        newest = history["time"].max()
        text = (params or {}).get("issued_at")
        issued = datetime.fromisoformat(text) if text else newest
        if not isinstance(issued, datetime):
            raise TypeError("time holds no stamps; give the history as columns time, value")
        return predict(self.trained, history, None, issued).to_pandas()
