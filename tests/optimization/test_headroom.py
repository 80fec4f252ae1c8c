"""Power kept free for the frequency: beside the plan, beside services, with the energy behind it, or named."""

from __future__ import annotations

import numpy as np
import pytest

from flexergy_pipelines.grid import FrequencyRule, GridCode
from flexergy_pipelines.optimization import Battery, Headroom, Problem, Reserve, Service, solve
from flexergy_pipelines.optimization.conditions import with_headroom
from flexergy_pipelines.optimization.site_problem import SiteState
from tests.optimization.support import battery, grid, hours
from tests.optimization.test_site_problem import microgrid, problem_of

PRICE = [0.1, 0.1, 0.5, 0.5]


def store(**fields: object) -> Battery:
    """50 kW and 100 kWh without losses, half full."""
    own = {"energy_capacity_kwh": 100.0, "max_charge_kw": 50.0, "max_discharge_kw": 50.0, "soc_start": 0.5}
    return battery(**(own | {"terminal": "free"} | fields))


def problem(own: Battery, **fields: object) -> Problem:
    given: dict[str, object] = {"horizon": hours(4), "grid": grid(PRICE), "batteries": (own,)}
    return Problem.model_validate(given | fields)


@pytest.mark.requirement("energy.15.1")
def test_power_and_energy_are_kept_free_whatever_the_prices_say() -> None:
    headroom = Headroom(up_kw=20.0, down_kw=10.0, hours=0.5)
    plan = solve(problem(store(headroom=headroom)))
    power, soc = plan.column("ess-1", "active_power_kw"), plan.column("ess-1", "soc")
    assert plan.violations == []
    assert power.max() == pytest.approx(30.0)  # 50 less 20
    assert power.min() >= -40.0 - 1e-6
    assert (soc >= 0.1 - 1e-9).all()  # 10 kWh behind 20 kW for half an hour
    assert (soc <= 0.95 + 1e-9).all()
    np.testing.assert_allclose(plan.column("ess-1", "headroom_up_kw"), 20.0)
    assert plan.objective_eur > solve(problem(store())).objective_eur


def test_what_cannot_be_kept_is_named() -> None:
    empty = store(soc_start=0.0, max_charge_kw=0.0, headroom=Headroom(up_kw=20.0, hours=1.0))
    plan = solve(problem(empty))
    assert [(v.asset_id, v.code, v.largest) for v in plan.violations] == [("ess-1", "headroom_up", 20.0)]


@pytest.mark.parametrize("held", ["service", "reserve"])
def test_services_and_reserve_come_on_top(held: str) -> None:
    more: dict[str, object] = {"reserve": Reserve(up_kw=50.0, duration_hours=0.0)}
    if held == "service":
        more = {"services": (Service(id="s", down=False, up_price_eur_per_kw_h=1.0, duration_hours=0.0),)}
    own = store(headroom=Headroom(up_kw=20.0, hours=0.0), max_charge_kw=0.0)
    plan = solve(problem(own, **more))
    name = "s.up_bid_kw" if held == "service" else "reserve.up_held_kw"
    power = plan.column("ess-1", "active_power_kw") + plan.schedule[name].to_numpy()
    assert power.max() == pytest.approx(30.0)


@pytest.mark.requirement("energy.15.1")
def test_a_droop_of_the_grid_code_is_kept_free_in_the_plans_of_a_site() -> None:
    site = microgrid()
    limit = site.ess()[0].max_discharge_kw
    rule = FrequencyRule(asset="ess-1", droop=0.004, reserve_kw=limit - 40.0)
    site = site.model_copy(update={"grid_code": GridCode(frequency=(rule,))})
    plain = problem_of(site, SiteState(soc={"ess-1": 0.5}))
    assert plain.grid is not None
    price = np.where(np.arange(48) < 40, 0.05, 2.0)  # an evening for which all of the store's power is wanted
    dear = plain.grid.model_copy(update={"import_price_eur_per_kwh": price, "import_limit_kw": None})
    plain = plain.model_copy(update={"grid": dear})
    made = with_headroom(plain, site)
    plan = solve(made)
    assert plan.violations == []
    assert plan.column("ess-1", "active_power_kw").max() <= 40.0 + 1e-6
    assert solve(plain).column("ess-1", "active_power_kw").max() > 40.0
    # A unit that has no power owes nothing, and what is sold as FCR is what the droop delivers.
    out = problem_of(site, SiteState(soc={"ess-1": 0.5}, unavailable=frozenset({"ess-1"})))
    assert solve(with_headroom(out, site)).violations == []
    sold = plain.model_copy(update={"services": (Service(id="fcr", kind="fcr"),)})
    assert with_headroom(sold, site) == sold
    table = FrequencyRule(asset="ess-1", points=((49.8, 60.0), (50.2, -60.0)))
    emergency = site.model_copy(update={"grid_code": GridCode(frequency=(table,))})
    assert with_headroom(plain, emergency).batteries[0].headroom is None


def test_what_headroom_cannot_be_combined_with_is_refused() -> None:
    with pytest.raises(ValueError, match="terminal 'cyclic' can't be combined with services, reserve or headroom"):
        problem(store(headroom=Headroom(up_kw=1.0), terminal="cyclic"))
    with pytest.raises(ValueError, match="ess-1: headroom: up_kw -1 at position 0 must be at least 0"):
        store(headroom={"up_kw": -1.0})
