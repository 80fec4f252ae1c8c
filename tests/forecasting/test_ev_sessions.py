"""EV charging before and after there is a history: sessions for the plan, quantiles for the forecast."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.ev_sessions import (
    expected_sessions,
    manager_of,
    session_load,
    session_statistics,
)
from flexergy_pipelines.forecasting.ev_statistics import learnt, prior
from flexergy_pipelines.forecasting.registry import ModelRegistry
from flexergy_pipelines.forecasting.serving import serve_site
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.grid import ForecastTarget, Site
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.ev_sessions import read_sessions, write_sessions
from flexergy_pipelines.store.sites import save_site
from tests.forecasting.data import utc

NOW = utc(2026, 6, 16, 22)
"""A Tuesday's end: local midnight."""


def workplace(**settings: float) -> Site:
    site = sample_site("microgrid")
    own = ForecastTarget.model_validate({"asset": "ev-1", "ev_usage": "workplace", **settings})
    return site.model_copy(update={"forecasts": site.forecasts.model_copy(update={"targets": (own,)})})


def stays(days: int, hour: int, energy_kwh: float) -> pl.DataFrame:
    """One session a day at each of six charge points."""
    rows = []
    for day in range(1, days + 1):
        for point in range(1, 7):
            arrival = NOW - timedelta(days=day) + timedelta(hours=hour, minutes=3 * point)
            rows.append(
                {
                    "asset_id": "ev-1", "charge_point": f"cp-0{point}", "session_id": f"{day}", "arrival": arrival,
                    "departure": arrival + timedelta(hours=2), "energy_kwh": energy_kwh, "soc_end": 0.8,
                }
            )  # fmt: skip
    return pl.DataFrame(rows)


def test_without_history_published_statistics_speak(db: TenantStore) -> None:
    save_site(db, workplace())
    day = expected_sessions(db, "microgrid", "ev-1", NOW, NOW + timedelta(days=1), known_at=NOW)
    assert 4 <= len(day) <= 6
    assert {session.source for session in day} == {"prior"}
    local = [session.arrival.astimezone(sample_site("microgrid").zone).hour for session in day]
    assert 7 <= np.median(local) <= 10
    saturday = NOW + timedelta(days=3)
    assert len(expected_sessions(db, "microgrid", "ev-1", saturday, saturday + timedelta(days=1), known_at=NOW)) <= 1
    for usage, hour in (("private", 18), ("workplace", 8)):
        arrivals = prior(usage).arrivals[0]
        assert arrivals.sum() == pytest.approx(1.0)
        assert abs(int(arrivals.argmax()) - 4 * hour) <= 4


def test_sessions_can_be_met_and_never_share_a_charge_point(db: TenantStore) -> None:
    save_site(db, workplace(ev_sessions_per_day=4.0))
    found = expected_sessions(db, "microgrid", "ev-1", NOW, NOW + timedelta(days=2), known_at=NOW)
    assert len(found) > 12
    for session in found:
        hours = (session.departure - session.arrival).total_seconds() / 3600
        assert 0 < session.energy_kwh <= session.max_kw * hours + 1e-9
        assert 0 <= session.soc_start <= session.soc_target <= 1
        assert session.soc_start + 0.92 * session.energy_kwh / session.capacity_kwh >= session.soc_target - 1e-9
    by_point: dict[str, list] = {}
    for session in found:
        by_point.setdefault(session.charge_point, []).append(session)
    for sessions in by_point.values():
        assert all(b.arrival >= a.departure for a, b in pairwise(sessions))


@pytest.mark.requirement("module.load")
def test_own_sessions_take_over_as_they_come(db: TenantStore) -> None:
    site = workplace()
    save_site(db, site)
    seen: list[tuple[str, float, float]] = []
    for days in (2, 10, 170):
        write_sessions(db, site.id, stays(days, hour=12, energy_kwh=5.0))
        found = expected_sessions(db, site.id, "ev-1", NOW, NOW + timedelta(days=1), known_at=NOW)
        hour = np.median([(s.arrival - NOW).total_seconds() / 3600 for s in found])
        seen.append((found[0].source, float(hour), found[0].energy_kwh))
    assert [source for source, _, _ in seen] == ["blend", "blend", "history"]
    assert abs(seen[-1][1] - 12) <= 0.5
    assert abs(seen[0][1] - 12) > abs(seen[-1][1] - 12)
    assert seen[-1][2] == pytest.approx(5.0, abs=1.0)
    assert len(found) == 6
    # what ends after the issue time is not known yet
    before = session_statistics(db, site, "ev-1", NOW - timedelta(days=169))
    assert before.own_weight < 0.3


def test_the_load_of_the_sessions_has_sorted_quantiles_within_the_feeder() -> None:
    site = workplace(ev_sessions_per_day=3.0)
    statistics = learnt(pl.DataFrame(schema={"arrival": pl.Datetime("us", "UTC"), "energy_kwh": pl.Float64}),
                        prior("workplace"), zone=site.time_zone, days=0, charge_points=6, per_day=3.0)  # fmt: skip
    minutes = to_minute(NOW) + np.arange(0, 48 * 60, 15, dtype=np.int64)
    load = session_load(statistics, site, "ev-1", minutes, 15, draws=100)
    bands = load.select([f"p{q}" for q in range(10, 100, 10)]).to_numpy()
    assert (np.diff(bands, axis=1) >= 0).all()
    assert bands.min() >= 0
    assert bands.max() <= manager_of(site, "ev-1").block.rated_kw
    by_hour = load["value"].to_numpy().reshape(48, 4).mean(axis=1)[:24]
    assert by_hour[8:12].mean() > 5 * by_hour[:5].mean()
    again = session_load(statistics, site, "ev-1", minutes, 15, draws=100)
    assert again.equals(load)
    hourly = session_load(statistics, site, "ev-1", minutes[::4], 60, draws=100)
    assert hourly["value"].sum() == pytest.approx(load["value"].sum() / 4, rel=0.01)


@pytest.mark.requirement("energy.03.3")
def test_a_new_site_forecasts_its_charging_from_sessions_and_says_so(db: TenantStore, tmp_path: Path) -> None:
    site = workplace()
    save_site(db, site)
    away = ModelRegistry("http://127.0.0.1:9", tmp_path)
    [served] = serve_site(db, site.id, NOW, away, targets=["microgrid.ev-1.active_power_kw"])
    assert (served.model, served.fallback_level) == ("ev_sessions", 3)
    assert "sessions by prior, weight 100%" in served.reason
    assert served.frame["value"].max() > 3  # type: ignore[operator]


def test_impossible_sessions_are_refused_by_name(db: TenantStore) -> None:
    save_site(db, workplace())
    good = stays(1, 12, 5.0)
    for column, value, message in (
        ("energy_kwh", -1.0, "session 1 at cp-01: energy_kwh -1.0 is negative"),
        ("departure", datetime(2020, 1, 1, tzinfo=NOW.tzinfo), "departure .* is not after its arrival"),
        ("soc_end", 80.0, "soc_end 80.0 is outside 0 to 1"),
    ):
        bad = good.with_columns(pl.lit(value).alias(column).cast(good.schema[column]))
        with pytest.raises(InvalidDataError, match=message):
            write_sessions(db, "microgrid", bad)
    assert read_sessions(db, "microgrid", NOW - timedelta(days=9), NOW).is_empty()
    assert write_sessions(db, "microgrid", good) == write_sessions(db, "microgrid", good) == 6
    with pytest.raises(KeyError, match="no charging manager pv-1; it has ev-1"):
        expected_sessions(db, "microgrid", "pv-1", NOW, NOW + timedelta(days=1), known_at=NOW)
