"""Study mode from the command line: results as documented, and wrong cases refused in one line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from flexergy_pipelines.optimization.cli import app
from flexergy_pipelines.optimization.study.case import case_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "studies").glob("*.yaml"))
RUNNER = CliRunner()


def base() -> dict[str, Any]:
    return {
        "case": 1,
        "horizon": {"start": "2026-03-02T00:00+01:00", "step_minutes": 60, "steps": 4},
        "grid": {"import_price_eur_per_kwh": [0.1, 0.2, 0.3, 0.4], "export_price_eur_per_kwh": 0.05},
        "loads": [{"id": "load", "power_kw": 5.0}],
        "batteries": [
            {
                "id": "ess-1",
                "energy_capacity_kwh": 10.0,
                "max_charge_kw": 5.0,
                "max_discharge_kw": 5.0,
                "soc_start": 0.0,
            }
        ],
    }


def study(folder: Path, case: Any, *options: str) -> Any:
    path = folder / "case.yaml"
    path.write_text(case if isinstance(case, str) else yaml.safe_dump(case))
    return RUNNER.invoke(app, [str(path), *options])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.requirement("energy.04.5")
def test_every_example_runs(path: Path):
    result = RUNNER.invoke(app, [str(path), "--json"])
    assert result.exit_code == 0, result.output
    out = json.loads(result.output)
    assert out["status"] == "optimal"
    assert sum(out["costs"].values()) == pytest.approx(out["objective_eur"])
    assert out["gap"] <= 1e-4
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


def change(path: str, value: Any) -> dict[str, Any]:
    """The base case with one field changed; None removes it."""
    case: Any = base()
    node = case
    *way, last = path.split(".")
    for key in way:
        node = node[int(key)] if key.isdigit() else node.setdefault(key, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return case


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("batteries.0.soc_min", 1.2, "ess-1: soc_min 1.2 must be at most 1.0"),
        ("batteries.0.charge_efficiency", 1.1, "ess-1: charge_efficiency 1.1 must be at most 1.0"),
        ("batteries.0.soc_max", -0.1, "ess-1: soc_max -0.1 must be at least 0.0"),
        ("batteries.0.max_charge_kw", -1, "ess-1: max_charge_kw -1 at position 0 must be at least 0"),
        ("batteries.0.max_charge_kw", [1, 2, 3], "ess-1: max_charge_kw has 3 values, the horizon has 4 steps"),
        ("batteries.0.colour", "red", "ess-1: colour is not a known field"),
        ("batteries.0.energy_capacity_kwh", None, "ess-1: energy_capacity_kwh is missing"),
        ("batteries.0.energy_capacity_kwh", "10", "ess-1: energy_capacity_kwh '10': input should be a valid number"),
        ("batteries.0.energy_capacity_kwh", True, "ess-1: energy_capacity_kwh True: input should be a valid number"),
        ("batteries.0.id", "load", "load: id appears more than once"),
        ("loads.0.power_kw", [1, 2, float("nan"), 3], "value nan at position 2 is not a finite number"),
        ("loads.0.power_kw", {"file": "../secret.csv", "column": "x"}, "lies outside the case's folder"),
        ("loads.0.power_kw", {"file": "/etc/passwd", "column": "x"}, "lies outside the case's folder"),
        ("loads.0.power_kw", {"file": "link.csv", "column": "x"}, "lies outside the case's folder"),
        ("loads.0.power_kw", {"file": "none.csv", "column": "x"}, "file 'none.csv' does not exist"),
        ("loads.0.power_kw", {"file": "bad.csv", "column": "y"}, "bad.csv has no column 'y'; it has time, x"),
        ("loads.0.power_kw", {"file": "bad.csv", "column": "x", "time": "time"}, "appears twice"),
        ("loads.0.power_kw", {"file": "short.csv", "column": "x"}, "short.csv has 2 rows, the horizon has 4 steps"),
        ("loads.0.power_kw", {"file": "gap.csv", "column": "x", "time": "time"}, "has no number for 1 of 4 steps"),
        ("loads.0.power_kw", {"file": "naive.csv", "column": "x", "time": "time"}, "has no offset from UTC"),
        ("horizon.step_minutes", 0, "horizon: step_minutes"),
        ("horizon.steps", 0, "horizon: steps 0 must be at least 1"),
        ("horizon.start", "2026-03-02T00:00", "has no offset from UTC"),
        ("horizon", None, "horizon is missing"),
        ("services", [{"id": "fcr", "providers": ["ess-9"]}], "fcr: providers names ess-9, known are ess-1"),
        ("actual", {"ess-9": {"soc_min": 0.1}}, "no asset 'ess-9' in this case"),
        ("actual", {"load": {"power": 1.0}}, "load has no field 'power'"),
        ("objective", {"goal": "happiness"}, "goal"),
        ("objective", {"wear_weight_of": {"ess-9": 1.0}}, "objective: wear_weight_of names ess-9, known are ess-1"),
        ("objective", {"goal": "profile"}, "needs grid.profile"),
        (
            "batteries",
            [
                {
                    "id": "b",
                    "energy_capacity_kwh": 1.0,
                    "max_charge_kw": 1.0,
                    "max_discharge_kw": 1.0,
                    "soc_min": 0.9,
                    "soc_max": 0.8,
                }
            ],
            "b: soc_min 0.9 is above soc_max 0.8",
        ),
        ("loads.0.power_kw", {"file": "unsorted.csv", "column": "x", "time": "time"}, "is earlier than the one before"),
        ("loads.0.power_kw", {"file": "clock.csv", "column": "x", "time": "time"}, "has no number for 1 of 4 steps"),
        (
            "batteries.0.charge_efficiency_curve",
            [{"power_kw": 2.0, "efficiency": 0.9}],
            "ess-1: charge_efficiency_curve ends at 2 kW, below the power limit of 5 kW",
        ),
        (
            "batteries.0.max_charge_by_soc",
            [{"at": 0.9, "share": 0.1}, {"at": 0.5, "share": 1.0}],
            "ess-1: max_charge_by_soc.at 0.5 follows 0.9; the points must rise",
        ),
        ("batteries.0.ramp_kw_per_minute", 0, "ess-1: ramp_kw_per_minute 0 must be above 0"),
        ("batteries.0.soc_floor", [0.1, 0.1, 1.4, 0.1], "ess-1: soc_floor 1.4 at position 2 must be between 0 and 1"),
        ("gensets", [{"id": "g", "min_kw": 5.0, "max_kw": 9.0}], "g: fuel_cost_eur_per_kwh is missing"),
        (
            "gensets",
            [
                {
                    "id": "g",
                    "min_kw": 5.0,
                    "max_kw": 9.0,
                    "fuel_curve": [{"power_kw": 6.0, "litres_per_h": 2.0}, {"power_kw": 9.0, "litres_per_h": 3.0}],
                }
            ],
            "g: fuel_curve reaches from 6 to 9 kW with 2 points; it must cover min_kw 5 to max_kw 9",
        ),
        ("shiftable_loads", [{"id": "s", "energy_kwh": 3.0}], "s: power_kw 0 must be above 0, or give a profile_kw"),
        (
            "grid.tiers",
            [{"id": "t", "tiers": [{"up_to_kwh": 5.0, "price_eur_per_kwh": 0.1}]}],
            "t: tiers[0].up_to_kwh 5; the last tier has no end",
        ),
        (
            "grid.demand_charges",
            [{"id": "d", "price_eur_per_kw": 1.0, "interval_minutes": 90}],
            "pcc: d: interval_minutes 90 is not a multiple of the step of 60 minutes",
        ),
        (
            "grid.import_price_eur_per_kwh",
            {"time_of_use": {"time_zone": "Mars/Base", "periods": [], "otherwise": 0.1}},
            "time_zone 'Mars/Base' is not an IANA time zone",
        ),
        (
            "grid.import_price_eur_per_kwh",
            {
                "time_of_use": {
                    "time_zone": "Europe/Berlin",
                    "otherwise": 0.1,
                    "periods": [{"start": "7", "end": "09:00", "value": 0.2}],
                }
            },
            "start '7' is not a time of day",
        ),
        (
            "network",
            {"pcc_bus": "a", "branches": [{"id": "l", "from_bus": "b", "to_bus": "c", "limit_kw": 5.0}]},
            "network: bus b is not connected to pcc_bus a",
        ),
        (
            "network",
            {
                "pcc_bus": "a",
                "bus_of": {"ess-9": "b"},
                "branches": [{"id": "l", "from_bus": "a", "to_bus": "b", "limit_kw": 5.0}],
            },
            "bus_of names ess-9, no such asset",
        ),
        ("ev_groups", [{"id": "posts", "sessions": ["car"]}], "posts: sessions names car, known are nothing"),
    ],
)
def test_wrong_case_is_refused_before_solving(tmp_path: Path, path: str, value: Any, message: str):
    (tmp_path.parent / "secret.csv").write_text("x\n1\n2\n3\n4\n")
    (tmp_path / "link.csv").symlink_to(tmp_path.parent / "secret.csv")
    (tmp_path / "bad.csv").write_text("time,x\n2026-03-02T00:00Z,1\n2026-03-02T00:00Z,2\n")
    (tmp_path / "short.csv").write_text("x\n1\n2\n")
    stamps = [f"2026-03-0{d}T{h:02}:00Z,{h}" for d, h in ((1, 23), (2, 0), (2, 2), (2, 3))]
    (tmp_path / "gap.csv").write_text("time,x\n" + "\n".join(stamps))
    unsorted = [f"2026-03-02T{h:02}:00Z,{h}" for h in (0, 2, 1, 3)]
    (tmp_path / "unsorted.csv").write_text("time,x\n" + "\n".join(unsorted))
    # Clocks going forward leave out an hour that the horizon still has when they are read as standard time.
    clock = [f"2026-03-02T{h:02}:00+01:00,{h}" for h in (0, 1, 3, 4)]
    (tmp_path / "clock.csv").write_text("time,x\n" + "\n".join(clock))
    (tmp_path / "naive.csv").write_text("time,x\n2026-03-02T00:00,1\n2026-03-02T01:00,1\n")
    result = study(tmp_path, change(path, value))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("- 1\n", (), "holds list, a case is a mapping"),
        ("a: [", (), "is not YAML"),
        ("horizon: 3", (), "horizon is missing"),
        (None, ("--sweep", "ess-1.nothing=1:2:1"), "ess-1 has no field 'nothing'"),
        (None, ("--sweep", "ess-1.soc_start=1:0:1"), "step must be above 0 and to not below from"),
        (None, ("--sweep", "soc"), "write <asset>.<field>=<from>:<to>:<step>"),
    ],
)
def test_wrong_file_or_option_is_refused(tmp_path: Path, text: str | None, options: tuple[str, ...], message: str):
    result = study(tmp_path, base() if text is None else text, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_missing_file_is_refused(tmp_path: Path):
    result = RUNNER.invoke(app, [str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


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
