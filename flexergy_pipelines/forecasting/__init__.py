"""Forecasts of sources, loads and prices: features, models, backtests, registry, training, serving and its fallbacks.

Does not belong here: fetching weather and prices (ingestion), cleansing (quality), planning (optimization).
"""

from flexergy_pipelines.forecasting.targets import Target, targets_of

__all__ = ["Target", "targets_of"]
