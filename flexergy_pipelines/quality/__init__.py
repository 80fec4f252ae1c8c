"""Data quality (AMI): detection of what is wrong in measured series, imputation, and what was done to each value."""

from flexergy_pipelines.quality.metering import consistency, meter_quality, observable_period
from flexergy_pipelines.quality.observable import ObservablePeriod, most_observable
from flexergy_pipelines.quality.series import clean_series
from flexergy_pipelines.quality.site import CleanReport, clean_day, clean_period, spec_of
from flexergy_pipelines.quality.spec import SeriesKind, SeriesSpec

__all__ = [
    "CleanReport",
    "ObservablePeriod",
    "SeriesKind",
    "SeriesSpec",
    "clean_day",
    "clean_period",
    "clean_series",
    "consistency",
    "meter_quality",
    "most_observable",
    "observable_period",
    "spec_of",
]
