"""Replay of the shipped sample year as if it happened now: the rule of re-dating, the series, prices and weather."""

from flexergy_pipelines.grid.replay.anchor import ensure_anchor, load_replay
from flexergy_pipelines.grid.replay.rule import PERIOD_DAYS, ReplayRule
from flexergy_pipelines.grid.replay.site import ReplayedSite
from flexergy_pipelines.grid.replay.weather import WEATHER_COLUMNS

__all__ = ["PERIOD_DAYS", "WEATHER_COLUMNS", "ReplayRule", "ReplayedSite", "ensure_anchor", "load_replay"]
