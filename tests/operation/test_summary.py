"""The summary: what an operator asks first, from the store alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.grid.samples import sample_sites
from flexergy_pipelines.operation.summary import dispatched_setpoints, summarize
from flexergy_pipelines.operation.summary_text import summary_text
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import raise_alarm
from flexergy_pipelines.store.kpis_table import write_kpis
from flexergy_pipelines.store.plans import PlanRecord, write_plan
from flexergy_pipelines.store.setpoints import write_setpoints
from flexergy_pipelines.store.sites import save_site

NOW = datetime(2026, 3, 10, 11, 7, tzinfo=UTC)
SITE = "microgrid"


@pytest.fixture
def planned(db: TenantStore) -> TenantStore:
    save_site(db, next(site for site in sample_sites() if site.id == SITE))
    start = NOW.replace(minute=0)
    times = [start + timedelta(minutes=15 * step) for step in range(4)]
    values = pl.DataFrame(
        [
            ("ess-1", quantity, time, value)
            for quantity, series in (
                ("active_power_kw", (-40.0, -40.0, 60.0, 20.0)),
                ("active_power_setpoint_kw", (-40.0, -40.0, 60.0, 20.0)),
                ("soc", (0.52, 0.54, 0.51, 0.50)),
            )
            for time, value in zip(times, series, strict=True)
        ],
        schema={"asset_id": pl.String, "quantity": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64},
        orient="row",
    )
    record = PlanRecord(
        SITE, "intraday", NOW, start, start + timedelta(hours=1), 15, "optimal", 0.0, 10.0, 10.0, 12.5,
        {"energy_import": 9.0, "battery_wear": 1.0},
    )  # fmt: skip
    write_plan(db, record, values)
    return db


def setpoint(time: datetime, sent: float | None, plan_id: int | None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "asset_id": ["ess-1"],
            "quantity": ["active_power_setpoint_kw"],
            "time": [time],
            "sent": [sent],
            "readback": [sent],
            "layer": ["plan"],
            "plan_id": [plan_id],
            "status": ["ok"],
        },
        schema_overrides={
            "time": pl.Datetime("us", "UTC"),
            "sent": pl.Float64,
            "readback": pl.Float64,
            "plan_id": pl.Int64,
        },
    )


@pytest.mark.requirement("module.operation")
def test_a_planned_site_in_figures(planned: TenantStore) -> None:
    write_setpoints(planned, SITE, setpoint(NOW, -40.0, 1))
    raise_alarm(planned, SITE, "meter_lost", 1, "pcc-meter has not answered for 5 s", "pcc")
    scores = pl.DataFrame(
        {
            "period_kind": ["training"] * 2,
            "period_start": [NOW.replace(minute=0)] * 2,
            "scope": ["load-1/active_power_kw"] * 2,
            "kpi": ["forecast_mae", "naive_mae"],
            "value": [6.0, 8.0],
            "unit": ["kW"] * 2,
            "coverage": [0.8] * 2,
            "reference": ["lightgbm", "best naive"],
        },
        schema_overrides={"period_start": pl.Datetime("us", "UTC")},
    )
    write_kpis(planned, SITE, scores)

    summary = summarize(planned, SITE, NOW)

    assert summary["as_of"] == "2026-03-10T12:07:00+01:00"
    plan = summary["plan"]
    assert plan["saved_eur"] == pytest.approx(2.5)
    assert plan["battery_wear_eur"] == pytest.approx(1.0)
    (battery,) = plan["battery"]
    assert battery["charged_kwh"] == pytest.approx(20.0)
    assert battery["discharged_kwh"] == pytest.approx(20.0)
    assert (battery["soc_lowest"], battery["soc_highest"]) == (0.50, 0.54)
    (forecast,) = summary["forecasts"]
    assert forecast["better_than_naive"] == pytest.approx(0.25)
    assert summary["alarms"][0]["severity"] == 1
    json.dumps(summary)

    text = summary_text(summary)
    for phrase in (
        "Cost        10.00 EUR; with the storage idle 12.50 EUR: 2.50 EUR better",
        "charges 20 kWh, discharges 20 kWh, SoC 50% to 54%",
        "MAE 6.0 kW by lightgbm (naive 8.0, 25% better)",
        "ess-1        setpoint -40.0 kW, read back -40.0 kW (plan)",
        "[1] pcc-meter has not answered for 5 s",
    ):
        assert phrase in text


def test_a_new_site_says_what_is_not_there_yet(db: TenantStore) -> None:
    save_site(db, next(site for site in sample_sites() if site.id == SITE))
    text = summary_text(summarize(db, SITE, NOW))
    for phrase in ("Plan        none yet", "no model trained yet", "nothing sent yet", "Alarms      none"):
        assert phrase in text


def test_only_what_was_sent_for_a_plan_since_then_counts_as_dispatched(planned: TenantStore) -> None:
    write_setpoints(planned, SITE, setpoint(NOW - timedelta(hours=2), 5.0, 1))
    assert dispatched_setpoints(planned, SITE, NOW - timedelta(hours=1)) == []
    write_setpoints(planned, SITE, setpoint(NOW, None, 1))
    assert dispatched_setpoints(planned, SITE, NOW - timedelta(hours=1)) == []
    write_setpoints(planned, SITE, setpoint(NOW + timedelta(seconds=1), 5.0, None))
    assert dispatched_setpoints(planned, SITE, NOW - timedelta(hours=1)) == []
    write_setpoints(planned, SITE, setpoint(NOW + timedelta(seconds=2), 5.0, 1))
    (row,) = dispatched_setpoints(planned, SITE, NOW - timedelta(hours=1))
    assert (row["asset"], row["sent"]) == ("ess-1", 5.0)
