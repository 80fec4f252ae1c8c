"""What models learn from: available power where a source was held back, nothing that was made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.exclusions import lesson, uncurtailed
from flexergy_pipelines.forecasting.site_data import read_histories, read_lessons
from flexergy_pipelines.forecasting.targets import targets_of
from flexergy_pipelines.grid import ForecastTarget, parse_site, site_to_dict
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.setpoints import write_setpoints
from flexergy_pipelines.store.sites import save_site
from tests.forecasting.data import LOAD, PV

QUARTER = timedelta(minutes=15)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = ForecastTarget(asset="pv-1", training_window_days=400)
NO_LIMITS = pl.DataFrame(schema={"time": pl.Datetime("us", "UTC"), "limit_kw": pl.Float64})
NO_REPORT = pl.DataFrame(schema={"time": pl.Datetime("us", "UTC"), "available_kw": pl.Float64})


def history(days: int, value: float = 40.0, flag: str | None = None) -> pl.DataFrame:
    times = pl.Series("time", [FIRST + QUARTER * i for i in range(96 * days)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"time": times}).with_columns(
        value=pl.lit(value), flag=pl.lit(flag, dtype=pl.String), curtailed=pl.lit(value=False)
    )


def at(frame: pl.DataFrame, index: int, **values: float) -> pl.DataFrame:
    return frame.select("time")[index : index + 1].with_columns(**{k: pl.lit(v) for k, v in values.items()})


def test_a_binding_limit_hides_the_meter_and_shows_what_was_available() -> None:
    measured = history(1).drop("curtailed")
    limits = pl.concat(
        [at(measured, 10, limit_kw=40.0), at(measured, 20, limit_kw=90.0), at(measured, 30, limit_kw=40.0)]
    )
    report = pl.concat([at(measured, 10, available_kw=75.0), at(measured, 40, available_kw=60.0)])
    found = uncurtailed(measured, limits, report, PV)
    assert found.filter("curtailed")["time"].to_list() == [FIRST + QUARTER * i for i in (10, 30, 40)]
    assert found["value"][10] == 75.0
    assert found["value"][20] == 40.0
    assert found["value"][30] is None
    assert found["value"][40] == 60.0


def test_a_limit_at_rated_power_is_no_limit() -> None:
    measured = history(1, value=99.0).drop("curtailed")
    found = uncurtailed(measured, at(measured, 5, limit_kw=100.0), NO_REPORT, PV)
    assert not found["curtailed"].any()


def test_estimates_and_excluded_periods_are_no_lesson_but_corrections_are() -> None:
    frame = pl.concat([history(30), history(3, 7.0, "similar_day").with_columns(pl.col("time") + timedelta(days=30)),
                       history(2, 8.0, "unit_slip").with_columns(pl.col("time") + timedelta(days=33)),
                       history(70, 9.0).with_columns(pl.col("time") + timedelta(days=35))])  # fmt: skip
    period = {"start": FIRST + timedelta(days=40), "end": FIRST + timedelta(days=42), "reason": "rebuild"}
    settings = ForecastTarget.model_validate({**SETTINGS.model_dump(), "excluded_periods": [period]})
    found = lesson(frame, PV, settings)
    assert set(found.frame["value"].unique()) == {40.0, 8.0, 9.0}
    assert found.frame.height == 96 * (105 - 3 - 2)
    assert found.facts["estimated_h"] == 72.0
    assert "rebuild" in str(found.facts["excluded_periods"])
    kept = lesson(frame, PV, settings.model_copy(update={"exclude_estimated": False, "excluded_periods": ()}))
    assert kept.frame.height == frame.height


def test_training_begins_with_the_most_observable_period_and_says_so() -> None:
    bad = history(100, 1.0, "similar_day")
    good = history(90).with_columns(pl.col("time") + timedelta(days=100))
    found = lesson(pl.concat([bad, good]), PV, SETTINGS.model_copy(update={"exclude_estimated": False}))
    assert found.frame["time"].min() == FIRST + timedelta(days=100) - timedelta(hours=2)
    assert "most observable period" in str(found.facts["training_window"])
    short = history(20).with_columns(pl.col("time") + timedelta(days=100))
    everything = lesson(pl.concat([bad, short]), PV, SETTINGS.model_copy(update={"exclude_estimated": False}))
    assert everything.frame.height == 96 * 120
    assert "leaves 2" in str(everything.facts["training_window"])


@pytest.mark.requirement("energy.02.1")
def test_a_sites_settings_reach_training_and_serving(db: TenantStore) -> None:
    data = site_to_dict(sample_site("microgrid"))
    period = {"start": "2026-02-01T00:00:00Z", "end": "2026-02-02T00:00:00Z", "reason": "inverter test"}
    own = {"asset": "pv-1", "horizon_hours": 24, "granularity_minutes": 30, "excluded_periods": [period]}
    site = parse_site({**data, "forecasts": {**data["forecasts"], "targets": [own]}})
    save_site(db, site)
    target = next(t for t in targets_of(site) if t.asset_id == "pv-1")
    assert (target.horizon_hours, target.step_minutes) == (24, 30)
    now = FIRST + timedelta(days=60)
    measured = history(60).select(
        "time", "value", "flag", asset_id=pl.lit("pv-1"), quantity=pl.lit("active_power_kw"),
        uncertainty=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    available = measured.with_columns(quantity=pl.lit("available_power_kw"), value=pl.lit(40.0))
    held = available.with_columns(value=pl.when(pl.col("time") == FIRST + QUARTER).then(90.0).otherwise(40.0))
    write_clean(db, site.id, pl.concat([measured, held]))
    limit = {"asset_id": "pv-1", "quantity": "active_power_limit_kw", "time": FIRST + timedelta(days=3, minutes=3)}
    write_setpoints(db, site.id, pl.DataFrame([{**limit, "sent": 20.0, "status": "ok"}]))

    learnt = read_lessons(db, site, [target], now)[target.name]
    assert learnt.facts["curtailed_h"] == 0.5
    assert learnt.frame.filter(pl.col("time") == FIRST + QUARTER)["value"].to_list() == [90.0]
    assert learnt.frame.height == 96 * 59
    served = read_histories(db, site.id, [target], now)[target.name]
    assert served.height == 96 * 60
    assert np.isfinite(served["value"].to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": [{"asset": "ess-1"}]}, "forecasts.targets[0]: asset ess-1 is not forecast; allowed: "),
        ({"targets": [{"asset": "pv-1"}, {"asset": "pv-1"}]}, "pv-1 is given twice"),
        ({"targets": [{"asset": "market", "granularity_minutes": 15}]}, "the price is forecast by the hour"),
        ({"targets": [{"asset": "pv-1", "horizon_hours": 49}]}, "49"),
        (
            {"monitoring": {"coverage_low": 0.9, "coverage_high": 0.7}},
            "coverage_low 0.9 is not below coverage_high 0.7",
        ),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_with_field_and_value(change: dict, message: str) -> None:
    from flexergy_pipelines.grid import SiteError

    data = site_to_dict(sample_site("microgrid"))
    with pytest.raises(SiteError) as refused:
        parse_site({**data, "forecasts": {**data["forecasts"], **change}})
    assert any(message in problem for problem in refused.value.problems)


def test_loads_are_held_back_by_limits_too() -> None:
    measured = history(1, value=50.0).drop("curtailed")
    limits = pl.concat([at(measured, 3, limit_kw=50.0), at(measured, 4, limit_kw=80.0)])
    found = uncurtailed(measured, limits, NO_REPORT, LOAD)
    assert (found["value"][3], found["value"][4]) == (None, 50.0)
    # a limit at its rated power, sent all the time, holds nothing back
    always = measured.select("time", limit_kw=pl.lit(50.0))
    assert not uncurtailed(measured, always, NO_REPORT, LOAD)["curtailed"].any()
    assert not uncurtailed(measured, NO_LIMITS, NO_REPORT, LOAD)["curtailed"].any()
