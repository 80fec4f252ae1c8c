"""Bids with quantity and price, sales that bind, unequal blocks that exclude each other, what each unit can give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.optimization import (
    Battery,
    GridConnection,
    Horizon,
    Problem,
    ProblemError,
    Reserve,
    Service,
    SharePoint,
    solve,
)
from flexergy_pipelines.optimization.auction import bids, system_capacity, unit_capacities

START = datetime(2026, 3, 1, tzinfo=UTC)
PRICES = np.array([0.05, 0.05, 0.2, 0.2, 0.05, 0.05, 0.2, 0.2, 0.05, 0.05, 0.2, 0.2])


def battery(name: str = "a", **fields: object) -> Battery:
    given = {
        "id": name, "energy_capacity_kwh": 200.0, "max_charge_kw": 100.0, "max_discharge_kw": 100.0, "soc_start": 0.5,
        "charge_efficiency": 0.95, "discharge_efficiency": 0.95,
    }  # fmt: skip
    return Battery.model_validate({**given, **fields})


def problem(*services: Service, batteries: tuple[Battery, ...] | None = None, **grid: object) -> Problem:
    connection = {"import_price_eur_per_kwh": PRICES, "export_price_eur_per_kwh": PRICES - 0.01, **grid}
    return Problem(
        horizon=Horizon(start=START, step_minutes=60, steps=PRICES.size),
        grid=GridConnection.model_validate(connection),
        batteries=batteries or (battery(),),
        services=services,
    )


def afrr(price: float, **fields: object) -> Service:
    given = {"id": "afrr", "kind": "afrr", "up_price_eur_per_kw_h": price, "down": False, "block_steps": 4}
    return Service.model_validate({**given, **fields})


@pytest.mark.requirement("energy.15.3")
def test_the_price_of_a_bid_is_what_holding_the_power_costs_the_plan() -> None:
    plan_at = {price: bids(p := problem(afrr(price)), solve(p, mip_gap=1e-9)) for price in (0.0, 1.0)}
    dear = plan_at[1.0]
    assert (dear["bid_kw"] > 0).all()
    for row in dear.iter_rows(named=True):
        assert row["price_eur_per_kw_h"] <= row["market_price_eur_per_kw_h"] + 1e-9
    free = plan_at[0.0].filter(pl.col("bid_kw") < 1e-6)
    assert (free["price_eur_per_kw_h"] >= 0).all()
    without, forced = problem(), problem(afrr(0.0, sold_up_kw=60.0, closed=1.0))
    cost = solve(forced, mip_gap=1e-9).objective_eur - solve(without, mip_gap=1e-9).objective_eur
    told = bids(forced, solve(forced, mip_gap=1e-9))
    # Holding is convex in power: the price of the last kilowatt is at least the mean price of all of them.
    assert cost > 0.1
    assert float((told["price_eur_per_kw_h"] * 60.0 * 4).sum()) >= cost - 1e-6


def test_what_was_sold_is_held_and_what_cannot_be_is_named() -> None:
    sold = np.array([0.0] * 4 + [50.0] * 4 + [0.0] * 4)
    held = problem(afrr(0.0, sold_up_kw=sold, closed=1.0))
    plan = solve(held)
    assert plan.violations == []
    np.testing.assert_allclose(plan.column("afrr", "up_bid_kw"), sold, atol=1e-6)
    too_much = problem(afrr(0.0, sold_up_kw=np.where(sold > 0, 500.0, 0.0), closed=1.0))
    named = [violation.code for violation in solve(too_much).violations]
    assert named == ["sold_up"]


def test_closed_blocks_take_no_new_bid_and_open_ones_do() -> None:
    closed = np.array([1.0] * 4 + [0.0] * 8)
    plan = solve(problem(afrr(0.5, closed=closed, min_bid_kw=10.0, bid_step_kw=5.0)))
    bid = plan.column("afrr", "up_bid_kw")
    assert bid[:4].max() == pytest.approx(0.0)
    assert bid[4:].min() >= 10.0 - 1e-6


def test_blocks_that_began_before_the_plan_keep_their_ends() -> None:
    made = problem(afrr(0.5, block_steps=4, block_offset=3, min_bid_kw=10.0, bid_step_kw=10.0))
    table = bids(made, solve(made))
    assert table["start"].to_list() == [START + timedelta(hours=h) for h in (0, 1, 5, 9)]
    assert table["end"].to_list() == [START + timedelta(hours=h) for h in (1, 5, 9, 12)]
    np.testing.assert_allclose(table["bid_kw"] / 10, np.round(table["bid_kw"] / 10), atol=1e-6)
    with pytest.raises(ProblemError, match="block_offset 4 must be below block_steps 4"):
        Service(id="afrr", block_steps=4, block_offset=4)


@pytest.mark.requirement("energy.15.1")
def test_services_of_unequal_blocks_exclude_each_other_where_they_overlap() -> None:
    price = np.array([0.3] * 3 + [0.01] * 9)
    long_one = afrr(0.1, block_steps=6, excludes=("mfrr",))
    short_one = Service(id="mfrr", kind="mfrr", down=False, up_price_eur_per_kw_h=price, block_steps=3)
    plan = solve(problem(long_one, short_one), mip_gap=1e-6)
    first, second = plan.column("afrr", "up_bid_kw"), plan.column("mfrr", "up_bid_kw")
    assert np.minimum(first, second).max() < 1e-6
    # The dear short block at the start beats the long one; from noon on the long one is worth more.
    assert second[:3].min() > 1
    assert first[:6].max() < 1e-6
    assert first[6:].min() > 1


@pytest.mark.requirement("energy.15.4", "energy.15.5")
def test_each_units_capacity_is_told_for_each_auction_period() -> None:
    out = np.array([100.0] * 4 + [0.0] * 4 + [100.0] * 4)
    units = (battery("a"), battery("b", max_charge_kw=out, max_discharge_kw=out), battery("c"))
    made = problem(afrr(0.05, duration_hours=4.0, providers=("a", "b")), batteries=units)
    plan = solve(made)
    table = unit_capacities(made, plan)
    of = {name: table.filter(pl.col("unit") == name) for name in "abc"}
    # 200 kWh over 4 h at 0.95: energy bounds what power would allow.
    np.testing.assert_allclose(of["a"]["largest_kw"], 200 * 0.95 / 4)
    assert of["b"]["largest_kw"].to_list() == pytest.approx([47.5, 0.0, 47.5])
    assert of["b"]["reason"].to_list() == ["", "out of operation", ""]
    assert of["c"]["reason"].unique().to_list() == ["not among the providers"]
    assert (of["c"]["largest_kw"] == 0).all()
    assert (table["held_kw"] <= table["free_kw"] + 1e-6).all()
    held = table.group_by("start", maintain_order=True).agg(pl.col("held_kw").sum())["held_kw"]
    assert (held <= bids(made, plan)["bid_kw"] + 1e-6).all()


@pytest.mark.requirement("energy.16.3")
def test_system_capacity_ends_at_the_boundaries_of_the_use_case() -> None:
    wide = problem(
        batteries=(battery("a", soc_min=0.1, soc_max=0.9), battery("b", max_charge_kw=0.0, max_discharge_kw=0.0))
    )
    found = system_capacity(wide, solve(wide))
    assert found.energy_kwh == pytest.approx(160.0)
    assert found.discharge_kw.max() == found.charge_kw.min() == pytest.approx(100.0)
    assert found.limited_by == "the units"
    narrow = problem(import_limit_kw=30.0, export_limit_kw=20.0)
    found = system_capacity(narrow, solve(narrow))
    assert found.charge_kw.max() == pytest.approx(30.0)
    assert found.discharge_kw.max() == pytest.approx(20.0)
    assert found.limited_by == "the grid connection"


@pytest.mark.requirement("energy.15.1")
@pytest.mark.parametrize("held_by", ["service", "reserve"])
def test_no_power_is_held_that_the_soc_does_not_allow(held_by: str) -> None:
    taper = (SharePoint(at=0.5, share=1.0), SharePoint(at=1.0, share=0.2))
    store = battery(
        energy_capacity_kwh=100.0, max_charge_kw=50.0, max_discharge_kw=50.0, soc_start=0.75, max_charge_by_soc=taper
    )
    held: dict[str, object] = {"reserve": Reserve(down_kw=40.0, duration_hours=0.0)}
    if held_by == "service":
        down = Service(id="down", up=False, down_price_eur_per_kw_h=0.1, duration_hours=0.0)
        held = {"services": (down,)}
    connection = GridConnection(import_price_eur_per_kwh=10.0, export_price_eur_per_kwh=-10.0)
    horizon = Horizon(start=START, step_minutes=60, steps=1)
    plan = solve(Problem.model_validate({"horizon": horizon, "grid": connection, "batteries": (store,), **held}))
    # At SoC 0.75 the charger gives 60 % of its 50 kW.
    name = "down.down_bid_kw" if held_by == "service" else "reserve.down_held_kw"
    assert plan.schedule[name].to_list() == pytest.approx([30.0])
