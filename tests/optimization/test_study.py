"""Study mode from the command line: results as documented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flexergy_pipelines.optimization.cli import app
from flexergy_pipelines.optimization.study.case import case_schema
from tests.optimization.study_support import RUNNER, base, study

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.requirement("energy.04.5")
def test_every_example_runs(path: Path):
    result = RUNNER.invoke(app, [str(path), "--json"])
    assert result.exit_code == 0, result.output
    out = json.loads(result.output)
    in_windows = path.stem == "uc1-hybrid-park"  # and priced at what happened: nothing proves that it was the best
    assert out["status"] == ("feasible" if in_windows else "optimal")
    assert sum(out["costs"].values()) == pytest.approx(out["objective_eur"])
    assert out["gap"] <= (0.05 if in_windows else 1e-4)
    assert set(out["timings_s"]) == {"build", "compile", "solve", "read"}


@pytest.mark.requirement("energy.04.5")
def test_result_has_schedule_wear_comparison_and_files(tmp_path: Path):
    result = study(tmp_path, base(), "--json", "--compare", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    out = json.loads(result.output)
    schedule = pl.read_parquet(tmp_path / "out" / "schedule.parquet")
    assert schedule.height == 4
    assert schedule["ess-1.active_power_kw"].to_list() == pytest.approx([-5.0, -5.0, 5.0, 5.0])
    assert pl.read_csv(out["schedule"]).columns == schedule.columns
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == out
    assert (tmp_path / "out" / "chart.svg").read_text().count("<svg") == 1
    assert out["objective_eur"] == pytest.approx(3.0)
    assert out["comparison"]["without_storage"]["objective_eur"] == pytest.approx(5.0)
    assert out["comparison"]["captured"] == pytest.approx(1.0)
    battery = out["kpis"]["batteries"]["ess-1"]
    assert battery["equivalent_full_cycles"] == pytest.approx(1.0)
    assert battery["deepest_cycle"] == pytest.approx(1.0)
    text = study(tmp_path, base(), "--compare")
    assert "gain by storage 2.00 EUR (100% of what was possible)" in text.output


def test_inline_schedule(tmp_path: Path):
    out = json.loads(study(tmp_path, base(), "--json", "--inline").output)
    assert out["schedule"]["time"][0] == "2026-03-01T23:00:00+00:00"
    assert len(out["schedule"]["ess-1.soc"]) == 4


@pytest.mark.parametrize("field", ["ess-1.energy_capacity_kwh", "ess.energy_kwh"])
def test_sweep_shows_what_size_brings(tmp_path: Path, field: str):
    result = study(tmp_path, base(), "--json", "--sweep", f"{field}=0:10:5")
    rows = json.loads(result.output)["sweep"]
    assert [row[field] for row in rows] == [0.0, 5.0, 10.0]
    assert [row["objective_eur"] for row in rows] == pytest.approx([5.0, 3.5, 3.0])


def test_windows_carry_the_state_and_look_ahead_pays(tmp_path: Path):
    case: Any = base() | {"windows": {"steps": 2}}
    case["batteries"][0]["terminal"] = "free"
    blind = json.loads(study(tmp_path, case, "--json").output)
    seeing = json.loads(study(tmp_path, case | {"windows": {"steps": 2, "look_ahead_steps": 2}}, "--json").output)
    whole = json.loads(study(tmp_path, {**case, "windows": None}, "--json").output)
    assert blind["objective_eur"] == pytest.approx(4.0)
    assert seeing["objective_eur"] == pytest.approx(whole["objective_eur"]) == pytest.approx(3.0)


@pytest.mark.requirement("energy.04.5")
def test_plan_on_a_forecast_is_priced_at_what_happened(tmp_path: Path):
    case = base() | {"actual": {"pcc": {"import_price_eur_per_kwh": [0.4, 0.3, 0.2, 0.1]}}}
    out = json.loads(study(tmp_path, case, "--json", "--compare").output)
    # The fixed plan charges in hours that turn out dear; nobody with foresight would have charged at all.
    assert out["objective_eur"] == pytest.approx(2 * 10 * 0.35)
    assert out["comparison"]["perfect_foresight"]["objective_eur"] == pytest.approx(5.0)
    assert out["comparison"]["gain_eur"] == pytest.approx(-2.0)


def test_series_from_files_are_brought_to_the_horizon(tmp_path: Path):
    (tmp_path / "data").mkdir()
    rows = ["time,mw", *(f"2026-03-02T0{h}:{m:02}+01:00,{h}.{m // 15}" for h in range(4) for m in (0, 15, 30, 45))]
    (tmp_path / "data" / "load.csv").write_text("\n".join(rows))
    case = base()
    case["loads"][0]["power_kw"] = {"file": "data/load.csv", "column": "mw", "time": "time", "scale": 2.0}
    out = json.loads(study(tmp_path, case, "--json", "--inline").output)
    assert out["schedule"]["load.active_power_kw"] == pytest.approx([0.3, 2.3, 4.3, 6.3])


def test_prices_by_the_clock_follow_daylight_saving(tmp_path: Path):
    periods = [
        {"start": "22:00", "end": "06:00", "value": 0.1},
        {"start": "06:00", "end": "22:00", "days": "weekend", "value": 0.2},
    ]
    price = {"time_of_use": {"time_zone": "Europe/Amsterdam", "periods": periods, "otherwise": 0.4}}
    case: Any = base() | {"horizon": {"start": "2026-03-28T20:00Z", "step_minutes": 60, "steps": 14}}
    case["grid"]["import_price_eur_per_kwh"] = price
    case["batteries"] = []
    out = json.loads(study(tmp_path, case, "--json").output)
    # Saturday 21 h to the Sunday on which the night is one hour shorter: 1 h at 0.2, 7 h at 0.1, 6 h at 0.2.
    assert out["objective_eur"] == pytest.approx(5.0 * (0.2 + 7 * 0.1 + 6 * 0.2))


def test_windows_carry_fuel_tiers_and_what_is_left_to_shift(tmp_path: Path):
    case: Any = base() | {
        "windows": {"steps": 2},
        "loads": [{"id": "load", "power_kw": 20.0}],
        "gensets": [{"id": "g", "min_kw": 0.0, "max_kw": 20.0, "fuel_cost_eur_per_kwh": 0.0, "max_energy_kwh": 30.0}],
        "shiftable_loads": [{"id": "pump", "power_kw": 5.0, "energy_kwh": 5.0}],
    }
    case["grid"]["tiers"] = [
        {"id": "t", "tiers": [{"up_to_kwh": 40.0, "price_eur_per_kwh": 0.0}, {"price_eur_per_kwh": 1.0}]}
    ]
    case["batteries"] = []
    out = json.loads(study(tmp_path, case, "--json", "--inline").output)
    assert sum(out["schedule"]["g.active_power_kw"]) == pytest.approx(30.0)
    assert sum(out["schedule"]["pump.active_power_kw"]) == pytest.approx(5.0)
    # 80 + 5 kWh, 30 from the genset; of 55 imported 40 are in the first tier.
    assert out["costs"]["energy_tiers"] == pytest.approx(15.0)


def test_sweep_reaches_parts_of_an_asset(tmp_path: Path):
    case = base()
    case["batteries"][0]["energy_capacity_kwh"] = 2.0
    case["batteries"][0]["investment"] = {"cost_eur_per_kwh": 0.0, "max_kwh": 0.0}
    result = study(tmp_path, case, "--json", "--sweep", "ess-1.investment.max_kwh=0:5:5")
    rows = json.loads(result.output)["sweep"]
    assert rows[1]["objective_eur"] < rows[0]["objective_eur"]
    result = study(tmp_path, base(), "--sweep", "ess-1.investment.max_kwh=0:5:5")
    assert result.exit_code == 2
    assert "investment has no fields of its own here" in result.stderr


def test_committed_schema_is_that_of_the_code():
    assert json.loads((ROOT / "docs" / "study.schema.json").read_text()) == case_schema()


def uncertain(**fields: object) -> dict[str, Any]:
    """A genset that must be started for what the forecast alone does not show."""
    case = base()
    case["grid"] |= {"import_limit_kw": 6.0, "breach_price_eur_per_kwh": 5.0}
    case["batteries"] = []
    case["gensets"] = [
        {"id": "genset", "min_kw": 1.0, "max_kw": 5.0, "fuel_cost_eur_per_kwh": 0.6, "min_up_minutes": 120}
    ]
    given = [
        {"probability": 0.75, "power_kw": {"load": 5.0}},
        {"probability": 0.25, "power_kw": {"load": [5, 9, 9, 5]}},
    ]
    return case | {"uncertainty": {"given": given} | fields}


def test_a_case_decides_over_its_scenarios(tmp_path: Path):
    out = json.loads(study(tmp_path, uncertain(), "--json").output)
    # On the forecast nothing runs, and 3 kW are drawn above the limit for two hours of the rarer day: 30 EUR of breach.
    assert [row["probability"] for row in out["scenarios"]] == [0.75, 0.25]
    costs = [row["cost_eur"] for row in out["scenarios"]]
    assert out["expected_cost_eur"] == pytest.approx(0.75 * costs[0] + 0.25 * costs[1])
    assert out["cvar_eur"] == pytest.approx(costs[1])
    # The genset at 1 kW costs 0.7 EUR more on the usual day and saves all but the fuel of 3 kW on the other.
    assert costs[0] == pytest.approx(5.0 * 1.0 + 0.6 * 2 - 0.2 - 0.3)
    assert costs[1] == pytest.approx(0.5 + 6 * 0.2 + 6 * 0.3 + 2.0 + 0.6 * 6)
    assert out["value_of_stochastic_eur"] == pytest.approx(0.25 * (30 + 6 * 0.5 / 2 - 3.6) - 0.75 * 0.7)
    assert not out["violations"]


def test_the_same_seed_draws_the_same_scenarios_and_a_wide_spread_costs(tmp_path: Path):
    drawn = uncertain(given=[], scenarios=4, spread={"load": 0.3})
    first, again = (json.loads(study(tmp_path, drawn, "--json").output) for _ in range(2))
    other = json.loads(study(tmp_path, drawn | {"uncertainty": {"scenarios": 4, "seed": 1}}, "--json").output)
    assert first["scenarios"] == again["scenarios"]
    assert first["scenarios"] != other["scenarios"]
    assert first["expected_cost_eur"] <= first["cvar_eur"]
    assert first["value_of_stochastic_eur"] >= 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"given": [{"probability": 0.4}]}, "probabilities of given sum up to 0.4"),
        ({"given": [{"probability": 1.0, "power_kw": {"pump": 1.0}}]}, "asset pump is unknown"),
        ({"given": [{"probability": 1.0, "power_kw": {"load": [1.0, 2.0]}}]}, "given[0]: load"),
        ({"given": [], "spread": {"pump": 0.1}}, "spread names pump, known are load"),
        ({"cvar_level": 1.0}, "cvar_level 1.0 must be below 1"),
        ({"scenarios": 0}, "scenarios 0 must be at least 1"),
    ],
)
def test_a_wrong_uncertainty_is_refused_in_one_line(tmp_path: Path, fields: dict[str, object], said: str):
    result = study(tmp_path, uncertain(**fields))
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_the_bound_of_a_plan_in_windows_holds_for_the_whole(tmp_path: Path):
    price = [0.1, 0.1, 0.3, 0.4]
    case = base()
    case["grid"]["import_price_eur_per_kwh"] = price
    case["batteries"][0]["terminal"] = "free"
    whole = json.loads(study(tmp_path, case, "--json").output)
    assert whole["status"] == "optimal"
    in_parts = {"windows": {"steps": 2}, "solver": {"time_limit_s": 20.0}}
    for parts in (in_parts, {"windows": {"steps": 1, "look_ahead_steps": 1}}):
        out = json.loads(study(tmp_path, case | parts, "--json").output)
        assert out["objective_eur"] > whole["objective_eur"] + 1e-6
        assert out["bound_eur"] == pytest.approx(whole["objective_eur"])
        assert out["status"] == "feasible"
        assert out["gap"] == pytest.approx(1 - out["bound_eur"] / out["objective_eur"])
    wrong = {"actual": {"pcc": {"import_price_eur_per_kwh": price[::-1]}}}
    out = json.loads(study(tmp_path, case | wrong, "--json", "--compare").output)
    assert out["bound_eur"] == pytest.approx(out["comparison"]["perfect_foresight"]["objective_eur"])
    assert out["objective_eur"] > out["bound_eur"] + 1e-6
    afresh = {"windows": {"steps": 1, "look_ahead_steps": 1, "carry_state": False}}
    out = json.loads(study(tmp_path, case | afresh, "--json").output)
    assert (out["bound_eur"], out["gap"], out["status"]) == (None, None, "feasible")


def test_windows_join_where_a_vehicle_is_away_and_a_load_may_not_be_curtailed_any_more(tmp_path: Path):
    case = base() | {
        "windows": {"steps": 2},
        "ev_sessions": [
            {"id": "car", "connected": [1, 1, 0, 0], "capacity_kwh": 10.0, "soc_start": 0.2, "max_kw": 4.0}
        ],
        "controllable_loads": [{"id": "cold", "power_kw": 2.0, "max_curtailed_minutes": 120}],
    }
    case["grid"]["import_price_eur_per_kwh"] = [1.0, 1.0, 1.0, 1.0]
    out = json.loads(study(tmp_path, case, "--json", "--inline").output)
    assert out["schedule"]["car.soc"] == pytest.approx([0.2, 0.6, 1.0, 1.0])
    assert out["schedule"]["cold.curtailed_share"] == pytest.approx([1.0, 1.0, 0.0, 0.0])
    assert out["schedule"]["cold.active_power_kw"] == pytest.approx([0.0, 0.0, 2.0, 2.0])


@pytest.mark.requirement("uc.4")
@pytest.mark.parametrize("look_ahead", [0, 2])
def test_a_bid_holds_to_the_end_of_its_block_where_windows_cut_it(tmp_path: Path, look_ahead: int):
    case: Any = base() | {"horizon": {"start": "2026-03-02T00:00Z", "step_minutes": 60, "steps": 12}}
    case["grid"] = {"import_price_eur_per_kwh": 0.2, "export_price_eur_per_kwh": 0.2}
    case["batteries"][0] |= {"soc_start": 0.5, "terminal": "equal"}
    price = [0.1, 0.1, 0.1, 0.01, 0.3, 0.01, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]  # what a window alone would bid changes
    case["services"] = [
        {"id": "fcr", "kind": "fcr", "symmetric": True, "up_price_eur_per_kw_h": price, "block_steps": 4,
         "down_price_eur_per_kw_h": 0.02, "duration_hours": 0.5, "min_bid_kw": 1.0, "bid_step_kw": 1.0}
    ]  # fmt: skip
    case["windows"] = {"steps": 3, "look_ahead_steps": look_ahead}
    out = json.loads(study(tmp_path, case, "--json", "--inline").output)
    bids = out["schedule"]["fcr.up_bid_kw"]
    for first in (0, 4, 8):
        assert bids[first : first + 4] == pytest.approx([bids[first]] * 4)
    assert max(bids) >= 1.0
    assert out["violations"] == []
    held = -sum(bid * (up + 0.02) for bid, up in zip(bids, price, strict=True))
    assert out["costs"]["service_fcr"] == pytest.approx(held)  # what was earned is there however the plan was made


@pytest.mark.requirement("module.genset")
def test_a_genset_comes_down_before_it_stops_also_where_a_window_ends(tmp_path: Path):
    case = base() | {"windows": {"steps": 2}, "batteries": []}
    case["grid"]["import_price_eur_per_kwh"] = [1.0, 1.0, 0.0, 0.0]
    case["gensets"] = [
        {
            "id": "g",
            "min_kw": 1.0,
            "max_kw": 5.0,
            "fuel_cost_eur_per_kwh": 0.3,
            "stop_kw": 2.0,
            "running_at_start": True,
        }
    ]
    out = json.loads(study(tmp_path, case, "--json", "--inline").output)
    assert out["schedule"]["g.active_power_kw"] == pytest.approx([5.0, 5.0, 1.0, 0.0])


def test_sweep_reaches_a_demand_charge_by_its_id(tmp_path: Path):
    case = base()
    case["grid"]["demand_charges"] = [
        {"id": "other", "price_eur_per_kw": 0.0},
        {"id": "month", "price_eur_per_kw": 1.0},
    ]
    result = study(tmp_path, case, "--json", "--sweep", "pcc.month.price_eur_per_kw=0:4:4")
    free, dear = json.loads(result.output)["sweep"]
    assert free["costs"]["demand_charge"] == 0.0
    assert dear["costs"]["demand_charge"] > 1.0
    result = study(tmp_path, case, "--sweep", "pcc.year.price_eur_per_kw=0:4:4")
    assert result.exit_code == 2
    assert "pcc has no field 'year'" in result.stderr
