"""Scenarios keep the quantiles, the bounds of physics, and what hangs together."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from flexergy_pipelines.forecasting.dependence import learnt_dependence
from flexergy_pipelines.forecasting.scenarios import draw_scenarios
from flexergy_pipelines.forecasting.targets import targets_of
from flexergy_pipelines.forecasting.trajectories import (
    LEVELS,
    Dependence,
    latent_draws,
    normal_scores,
    on_quantiles,
    reduced,
)
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.forecasts import ForecastRun, write_forecast
from flexergy_pipelines.store.prices import write_prices
from flexergy_pipelines.store.sites import save_site
from tests.forecasting.data import utc

SITE = sample_site("microgrid")
NOW = utc(2026, 6, 20, 6)
QUARTER = timedelta(minutes=15)
FREE = np.full(48, np.inf)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def bands(rng: np.random.Generator, steps: int = 48) -> np.ndarray:
    return np.sort(rng.normal(50, 20, (steps, 9)), axis=1)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(40, 300))
def test_margins_are_those_of_the_forecast_and_bounds_hold(seed: int, count: int) -> None:
    wanted = bands(np.random.default_rng(seed))
    latent = latent_draws(Dependence(np.array([4.0]), np.eye(1), 0.0), 48, 0.25, count, seed)[:, 0]
    paths = on_quantiles(latent, wanted, -FREE, FREE)
    for j, level in enumerate(LEVELS):
        below = (paths <= wanted[:, j] + 1e-9).mean(axis=0)
        assert np.abs(below - level).max() <= 1.0 / count + 1e-9
    cut = on_quantiles(latent, wanted, np.full(48, 40.0), np.full(48, 60.0))
    assert cut.min() >= 40.0
    assert cut.max() <= 60.0


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 60))
def test_weights_sum_to_one_and_every_scenario_is_one_of_the_drawn(seed: int, count: int, total: int) -> None:
    values = np.random.default_rng(seed).normal(size=(total, 7))
    kept, weights = reduced(values, count)
    assert kept.size == weights.size == min(count, total)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights > 0).all()
    assert np.unique(kept).size == kept.size
    if count >= total:
        assert weights == pytest.approx(np.full(total, 1 / total))


def test_few_scenarios_keep_the_mean_and_most_of_the_spread() -> None:
    wanted = bands(np.random.default_rng(3))
    latent = latent_draws(Dependence(np.array([6.0]), np.eye(1), 0.0), 48, 0.25, 256, 1)[:, 0]
    paths = on_quantiles(latent, wanted, -FREE, FREE)
    kept, weights = reduced(paths, 12)
    mean = weights @ paths[kept]
    assert np.abs(mean - paths.mean(axis=0)).mean() < 0.25 * paths.std(axis=0).mean()
    energy, few = paths.sum(axis=1), paths[kept].sum(axis=1)
    spread = np.sqrt(weights @ (few - weights @ few) ** 2)
    assert 0.6 * energy.std() < spread < 1.4 * energy.std()


@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.8])
def test_ranks_move_together_as_the_errors_did_in_time_and_between_targets(rho: float) -> None:
    dependence = Dependence(np.array([6.0, 6.0]), np.array([[1.0, rho], [rho, 1.0]]), 30.0)
    rng = np.random.default_rng(5)
    latent = latent_draws(dependence, 96, 0.25, 1500, 2)
    a, b = (on_quantiles(latent[:, k], bands(rng, 96), np.full(96, -np.inf), np.full(96, np.inf)) for k in (0, 1))
    assert rank_correlation(a[:, 40], b[:, 40]) == pytest.approx(6 / np.pi * np.arcsin(rho / 2), abs=0.08)
    in_time = np.exp(-12 * 0.25 / 6.0)
    assert rank_correlation(a[:, 40], a[:, 52]) == pytest.approx(6 / np.pi * np.arcsin(in_time / 2), abs=0.08)


def test_normal_scores_undo_the_quantiles() -> None:
    z = np.linspace(-2.0, 2.0, 41)
    known = np.asarray(norm.ppf(LEVELS))
    scores = normal_scores(10 + 3 * z, np.tile(10 + 3 * known, (z.size, 1)))
    assert scores == pytest.approx(z, abs=0.02)
    assert np.isnan(normal_scores(np.array([0.0]), np.zeros((1, 9)))).all()


def issue(db: TenantStore, point: tuple[str, str], issued: datetime, values: np.ndarray, spread: float) -> None:
    asset, quantity = point
    step = QUARTER if asset != "market" else timedelta(hours=1)
    times = [issued + step * i for i in range(values.size)]
    columns = {f"p{int(level * 100 + 0.5)}": values + spread * norm.ppf(level) for level in LEVELS}
    run = ForecastRun(SITE.id, asset, quantity, issued, "ensemble", "1")
    write_forecast(db, run, pl.DataFrame({"time": times, "value": values, **columns}))


def test_a_site_gets_coherent_scenarios_from_its_own_past(db: TenantStore) -> None:
    save_site(db, SITE)
    rng = np.random.default_rng(0)
    begin = NOW - timedelta(days=24)
    hours = 24 * 24
    common = np.zeros(hours)
    for t in range(1, hours):
        common[t] = 0.9 * common[t - 1] + np.sqrt(1 - 0.81) * rng.normal()
    truths = {"load-1": 100 + 5 * common, "wind-1": 60 - 10 * common}
    for asset, truth in truths.items():
        rows = pl.DataFrame({"time": [begin + QUARTER * i for i in range(hours * 4)], "value": np.repeat(truth, 4)})
        rows = rows.with_columns(
            asset_id=pl.lit(asset), quantity=pl.lit("active_power_kw"), flag=pl.lit(None, dtype=pl.String),
            uncertainty=pl.lit(None, dtype=pl.Float64),
        )  # fmt: skip
        write_clean(db, SITE.id, rows)
        level, spread = (100.0, 5.0) if asset == "load-1" else (60.0, 10.0)
        for k in range(49):
            made = begin + timedelta(hours=12 * k)
            issue(db, (asset, "active_power_kw"), made, np.full(192, level), spread)
    issue(db, ("market", "day_ahead_price_eur_per_kwh"), NOW, np.full(48, 0.1), 0.02)
    prices = pl.DataFrame({"time": [NOW + timedelta(hours=i) for i in range(-6, 16)]}).with_columns(
        price_eur_per_kwh=pl.lit(0.07), resolution_minutes=pl.lit(60)
    )
    write_prices(db, SITE.id, "day_ahead", prices, NOW - timedelta(hours=1))

    targets = [t for t in targets_of(SITE) if t.asset_id in truths]
    dependence = learnt_dependence(db, SITE.id, targets, NOW)
    assert dependence.days >= 23
    assert dependence.correlation[0, 1] < -0.5
    assert (dependence.memory_h > 4.0).all()

    end = NOW + timedelta(hours=36)
    found = draw_scenarios(db, SITE.id, NOW, end, step_minutes=15, known_at=NOW, count=10, seed=1)
    assert found.probability.sum() == pytest.approx(1.0)
    assert {key[0] for key in found.values} == {"load-1", "wind-1", "market"}
    assert set(found.missing) == {t.name for t in targets_of(SITE) if t.asset_id in ("pv-1", "cold-store", "ev-1")}
    assert all(value.shape == (10, 144) for value in found.values.values())
    price = found.values["market", "day_ahead_price_eur_per_kwh"]
    assert (price[:, :64] == 0.07).all()
    assert price[:, 64:].std() > 0.005
    wind, load = found.values["wind-1", "active_power_kw"], found.values["load-1", "active_power_kw"]
    assert wind.min() >= 0.0
    assert np.corrcoef(wind.mean(axis=1), load.mean(axis=1))[0, 1] < -0.3
    again = draw_scenarios(db, SITE.id, NOW, end, step_minutes=15, known_at=NOW, count=10, seed=1)
    assert all(np.array_equal(again.values[key], found.values[key]) for key in found.values)
    coarse = draw_scenarios(db, SITE.id, NOW, end, step_minutes=60, known_at=NOW, count=3)
    assert coarse.values["load-1", "active_power_kw"].shape == (3, 36)
    with pytest.raises(ValueError, match="count 0"):
        draw_scenarios(db, SITE.id, NOW, end, step_minutes=15, known_at=NOW, count=0)
