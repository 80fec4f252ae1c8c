"""Forecasts: targets, features, models, backtests, registry and fallback."""
