"""Cases as people write them: what is wrong is refused in one line each, before anything is solved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flexergy_pipelines.optimization.cli import app
from flexergy_pipelines.optimization.study.case import case_schema, load_case
from tests.optimization.study_support import RUNNER, base, study


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
        ("loads.0.power_kw", {"file": "semi.csv", "column": "x"}, "separates its columns by ';'; write commas"),
        (
            "loads.0.power_kw",
            {"file": "text.csv", "column": "x"},
            "column 'x' holds 'n/a' in row 2, which is no number",
        ),
        ("loads.0.power_kw", [1, 2, "x", 3], "load: power_kw value 'x' at position 2 is not a number"),
        ("loads.0.power_kw", [1, 2, [3], 4], "load: power_kw holds a list at position 2; must be a flat list"),
        ("loads", [{"power_kw": 1.0}], "loads[0]: id is missing"),
        ("batteries", {"id": "b"}, "batteries: must be a list"),
        ("grid", [], "grid: must be a mapping of fields"),
        ("battery", [], "battery is not a known field; did you mean batteries?"),
        (
            "batteries.0.capacity_kwh",
            5.0,
            "ess-1: capacity_kwh is not a known field; did you mean energy_capacity_kwh?",
        ),
        ("grid.import_price_eur_per_kwh", float("inf"), "pcc: import_price_eur_per_kwh value inf at position 0"),
        ("solver", {"time_limit_s": 0}, "solver: time_limit_s 0 must be above 0"),
        ("objective", {"wear_weight": -1}, "objective: wear_weight -1 must be at least 0"),
        (
            "batteries.0.depth_wear",
            {"replacement_cost_eur_per_kwh": 1.0, "cycle_life": [{"depth": 2.0, "cycles": 9.0}]},
            "ess-1: depth_wear: cycle_life[0]: depth 2.0 must be at most 1.0",
        ),
        (
            "horizon",
            {"start": "2026-03-02T00:00Z", "end": "2026-03-02T02:25Z", "step_minutes": 60},
            "must be a whole number of steps of 60 minutes after start 2026-03-02T00:00:00+00:00; 25 minutes are left",
        ),
        (
            "horizon",
            {"start": "2026-03-02T00:00Z", "end": "2026-03-01T00:00Z", "step_minutes": 60},
            "horizon: end 2026-03-01T00:00:00+00:00 must be after start 2026-03-02T00:00:00+00:00",
        ),
        (
            "windows",
            {"steps": 2},
            "windows: can't be combined with ess-1: terminal 'cyclic'; give terminal 'equal', or solve the horizon",
        ),
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
    (tmp_path / "semi.csv").write_text("time;x\n2026-03-02T00:00Z;1,5\n")
    (tmp_path / "text.csv").write_text("x\n1\nn/a\n3\n4\n")
    stamps = [f"2026-03-0{d}T{h:02}:00Z,{h}" for d, h in ((1, 23), (2, 0), (2, 2), (2, 3))]
    (tmp_path / "gap.csv").write_text("time,x\n" + "\n".join(stamps))
    unsorted = [f"2026-03-02T{h:02}:00Z,{h}" for h in (0, 2, 1, 3)]
    (tmp_path / "unsorted.csv").write_text("time,x\n" + "\n".join(unsorted))
    # Clocks going forward leave out an hour that the horizon still has when they are read as standard time.
    clock = [f"2026-03-02T{h:02}:00+01:00,{h}" for h in (0, 1, 3, 4)]
    (tmp_path / "clock.csv").write_text("time,x\n" + "\n".join(clock))
    (tmp_path / "naive.csv").write_text("time,x\n2026-03-02T00:00,1\n2026-03-02T01:00,1\n")
    case = change(path, value)
    if path == "windows":
        case["batteries"][0]["terminal"] = "cyclic"
    result = study(tmp_path, case)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("- 1\n", (), "holds list, a case is a mapping"),
        ("a: [", (), "is not YAML"),
        ("case: 1", (), "horizon is missing"),
        ("horizon: 3", (), "horizon 3 is no mapping of fields"),
        ("", (), "is empty, a case is a mapping"),
        ("loads: []\nloads: []\n", (), "loads appears twice in one mapping, the second time in line 2"),
        ("horizon: {start: 2026-13-45}", (), "holds a date or number that does not exist"),
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


def test_hours_of_the_clock_need_no_quotes_and_numbers_may_have_an_exponent(tmp_path: Path):
    price = (
        "{time_of_use: {time_zone: Europe/Paris, otherwise: 1e-1, periods: [{start: 17:00, end: 21:00, value: .3}]}}"
    )
    text = yaml.safe_dump(base() | {"horizon": {"start": "2026-03-02T16:00+01:00", "step_minutes": 60, "steps": 6}})
    text = text.replace(
        "import_price_eur_per_kwh:\n  - 0.1\n  - 0.2\n  - 0.3\n  - 0.4\n", f"import_price_eur_per_kwh: {price}\n"
    )
    (tmp_path / "case.yaml").write_text(text)
    grid = load_case(tmp_path / "case.yaml").problem.grid
    assert grid is not None
    assert grid.import_price_eur_per_kwh.tolist() == [0.1, 0.3, 0.3, 0.3, 0.3, 0.1]


def test_a_file_of_aliases_that_would_unfold_without_end_is_refused_at_once(tmp_path: Path):
    text = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for one, other in zip("abcdefghijkl", "bcdefghijklm", strict=True):
        text += f"{other}: &{other} [{', '.join([f'*{one}'] * 10)}]\n"
    case = yaml.safe_dump(base()).replace("power_kw: 5.0", "power_kw: *m")
    result = study(tmp_path, text + case)
    assert result.exit_code == 2
    assert "load: power_kw holds a list at position 0; must be a flat list of numbers" in result.stderr


def test_the_schema_takes_an_end_in_place_of_steps():
    schema = jsonschema.Draft202012Validator(case_schema())
    case = base()
    assert schema.is_valid(case)
    case["horizon"] = {"start": "2026-03-02T00:00Z", "end": "2026-03-03T00:00Z", "step_minutes": 60}
    assert schema.is_valid(case)
    assert not schema.is_valid(case | {"horizon": case["horizon"] | {"steps": 24}})
    assert not schema.is_valid(case | {"horizon": {"start": "2026-03-02T00:00Z"}})
