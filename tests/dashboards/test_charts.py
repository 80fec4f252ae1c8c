"""Charts and view models as pure functions of frames."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.charts.forecast import fan_chart
from dashboards.charts.plan import balance_frame, schedule_chart
from dashboards.charts.time_axis import label_expression, local_ticks, offset_steps
from dashboards.synoptic import synoptic
from dashboards.views.battery import time_by_soc
from dashboards.views.forecast import accuracy
from dashboards.views.history import by_unit, measured_points, step_for
from dashboards.views.kpi import kpi_table
from dashboards.views.live import Control, Node, in_control, live_image, nodes, totals
from dashboards.views.live import controls as controls_of
from dashboards.views.operation import actuators, event_table
from dashboards.views.overview_html import CSS, control_html, live_html
from dashboards.views.plan import cost_frame, next_hour, saving
from dashboards.views.quality import completeness, day_bounds, flag_counts
from dashboards.words import duration, number, percent, plain, power, with_unit
from flexergy_pipelines.grid import Site
from tests.dashboards.seeding import live_frame, microgrid, plan_values

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
SPRING = datetime(2026, 3, 28, 23, tzinfo=UTC)  # the local day 29 March 2026 has 23 hours
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)  # the local day 25 October 2026 has 25 hours
NOON = datetime(2026, 6, 1, 10, 7, tzinfo=UTC)


def label_at(expression: str, moment: datetime) -> str:
    """What Vega would write at a tick: the expression's arithmetic, in Python."""
    inner = re.fullmatch(r"utcFormat\(datum\.value \+ (.*), '%H:%M'\)", expression)
    assert inner is not None
    value = moment.timestamp() * 1000
    rest = inner[1]
    while (branch := re.fullmatch(r"\(datum\.value < (\d+) \? (-?\d+) : (.+)\)", rest)) is not None:
        rest = branch[2] if value < int(branch[1]) else branch[3]
    return f"{datetime.fromtimestamp((value + int(rest)) / 1000, UTC):%H:%M}"


@pytest.mark.parametrize(("start", "hours"), [(SPRING, 23), (AUTUMN, 25), (datetime(2026, 5, 31, 22, tzinfo=UTC), 24)])
def test_labels_show_the_local_clock_on_days_of_any_length(start: datetime, hours: int) -> None:
    end = start + timedelta(hours=hours)
    expression = label_expression(start, end, AMSTERDAM, "%H:%M")
    for quarter in range(hours * 4):
        moment = start + quarter * timedelta(minutes=15)
        assert label_at(expression, moment) == f"{moment.astimezone(AMSTERDAM):%H:%M}"


@settings(deadline=None)
@given(
    start=st.integers(1_577_836_800, 1_893_456_000).map(lambda s: datetime.fromtimestamp(s, UTC)),
    hours=st.floats(0.5, 24 * 400),
    zone=st.sampled_from(["Europe/Amsterdam", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]),
)
def test_ticks_lie_inside_in_order_and_on_round_local_hours(start: datetime, hours: float, zone: str) -> None:
    end = start + timedelta(hours=hours)
    ticks = local_ticks(start, end, ZoneInfo(zone))
    assert all(start <= tick <= end for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= 12
    changes = {at for at, _ in offset_steps(start, end, ZoneInfo(zone))[1:]}
    round_ones = [tick.astimezone(ZoneInfo(zone)).minute == 0 for tick in ticks]
    assert all(round_ones) or changes


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["pv-1", "ess-1", "pcc", "load-1", "ev-1"]), st.floats(-500, 500)),
        unique_by=lambda pair: pair[0],
        min_size=1,
    )
)
def test_stacked_bars_neither_overlap_nor_lose_power(parts: list[tuple[str, float]]) -> None:
    kinds = {"pv-1": "pv", "ess-1": "ess", "pcc": "pcc", "load-1": "load", "ev-1": "ev"}
    frame = pl.DataFrame(
        {"asset_id": [p[0] for p in parts], "time": [NOON] * len(parts), "value": [p[1] for p in parts]}
    )
    balance = balance_frame(frame, kinds, 15)
    total = sum(-value if kinds[asset] in {"load", "ev"} else value for asset, value in parts)
    assert balance["power_kw"].sum() == pytest.approx(total, abs=1e-6)
    for sign in (1, -1):
        side = balance.filter(pl.col("power_kw") * sign > 0).sort(pl.col("outer_kw") * sign)
        edges = [0.0, *side["outer_kw"].to_list()]
        assert side["inner_kw"].to_list() == pytest.approx(edges[:-1], abs=1e-6)


def test_unknown_power_is_left_out_of_the_balance_and_not_drawn_as_zero() -> None:
    frame = pl.DataFrame({"asset_id": ["pv-1", "load-1"], "time": [NOON] * 2, "value": [None, 10.0]})
    assert balance_frame(frame, {"pv-1": "pv", "load-1": "load"}, 15)["asset_id"].to_list() == ["load-1"]


def test_charts_of_a_day_can_be_made() -> None:
    site = microgrid()
    values = plan_values(site, SPRING, 92)
    powers = values.filter(pl.col("quantity") == "active_power_kw")
    kinds = {asset.id: asset.kind for asset in site.assets()}
    end = SPRING + timedelta(hours=23)
    spec = schedule_chart(balance_frame(powers, kinds, 15), SPRING, end, site.zone, now=SPRING).to_dict()
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"][0] == "PV"
    forecast = pl.DataFrame({"time": [NOON], "value": [1.0], **{f"p{q}": [1.0] for q in range(10, 100, 10)}})
    nothing = pl.DataFrame(schema={"time": pl.Datetime("us", "UTC"), "value": pl.Float64})
    fan = fan_chart(forecast, nothing, NOON, NOON + timedelta(hours=1), site.zone, colour="#000", unit="kW", now=SPRING)
    assert len(fan.to_dict()["layer"]) == 5


def test_missing_is_not_zero_in_sums_and_on_screen() -> None:
    site = microgrid()
    frame = live_frame(site, NOON).filter(pl.col("asset_id") != "wind-1")
    image = live_image(frame)
    sums = totals(site, image)
    assert sums.renewables_kw is None
    assert sums.demand_kw is not None
    drawn = next(node for node in nodes(site, image) if node.asset_id == "wind-1")
    assert drawn.power_kw is None
    assert power(drawn.power_kw) == "– kW"


def test_bad_quality_is_not_shown_as_a_value() -> None:
    site = microgrid()
    frame = live_frame(site, NOON).with_columns(
        pl.when(pl.col("asset_id") == "pcc").then(2).otherwise("quality").alias("quality")
    )
    assert live_image(frame).value("pcc") is None


@pytest.mark.parametrize(("age_s", "stale"), [(0, False), (9, False), (11, True), (3600, True)])
def test_old_values_are_called_stale(age_s: float, stale: bool) -> None:
    site = microgrid()
    image = live_image(live_frame(site, NOON - timedelta(seconds=age_s)))
    html = live_html(site, image, None, NOON)
    assert ("Stale: last value" in html) is stale
    assert ('class="fx-f"' in html) is not stale


@pytest.mark.requirement("module.dashboard")
def test_the_live_picture_tells_soc_power_limits_and_who_controls() -> None:
    site = microgrid()
    html = live_html(site, live_image(live_frame(site, NOON)), ("Plan", "version 7"), NOON)
    assert re.search(r'data-testid="live-soc">52\.30 %<', html)
    assert "Control: <b>Plan</b> (version 7)" in html
    assert "12:07:00</b> Europe/Amsterdam (UTC+02:00)" in html
    for asset in site.assets():
        assert f">{asset.id}<" in html


def test_text_from_configuration_cannot_become_markup() -> None:
    node = Node("<script>x</script>", "pv", "PV", 1.0, 1.0, "<b>")
    picture = synoptic([node], busbar='"><img>', clock_s=0.0, stale=False, narrow=True)
    assert "<script>" not in picture
    assert "<b>" not in picture
    assert "<img>" not in picture


def test_a_lapsed_setpoint_no_longer_holds_control() -> None:
    frame = pl.DataFrame(
        {
            "asset_id": ["ess-1"],
            "quantity": ["active_power_setpoint_kw"],
            "requested": [1.0],
            "sent": [1.0],
            "readback": [1.0],
            "layer": ["operator"],
            "reason": ["test"],
            "valid_until": [NOON],
            "status": ["ok"],
        }
    )
    rows = controls_of(frame)
    assert in_control(rows, microgrid(), NOON - timedelta(seconds=1)) == ("Operator's command", "test")
    assert in_control(rows, microgrid(), NOON + timedelta(seconds=31)) is None


def test_a_site_of_meters_alone_shows_nothing_that_it_does_not_have() -> None:
    content = microgrid().model_dump(mode="json")
    content |= {"controllers": [], "replay": None, "forecasts": {}, "history": {}}
    content["grid_connection"] |= {"import_limit_kw": 0.0, "export_limit_kw": 0.0}
    site = Site.model_validate(content)
    html = live_html(site, live_image(live_frame(site, NOON)), None, NOON)
    assert "live-renewables" not in html
    assert "live-soc" not in html
    assert ", none is allowed" in html
    assert actuators(site) == []


def test_an_order_for_a_charge_point_is_logged_as_it_is_given() -> None:
    events = pl.DataFrame(
        {
            "at": [NOON], "actor": ["olga"], "kind": ["command_given"], "reason": ["cable damaged"],
            "subject": ['ev-1/charge_point/cp-01/availability/["inoperative"]'],
            "detail": ['{"value": 1.0, "until": "2026-07-01T10:00:20+00:00", "command_id": 7}'],
        }
    )  # fmt: skip
    row = event_table(events, ZoneInfo("Europe/Amsterdam")).row(0, named=True)
    assert row["to"] == "ev-1/cp-01 availability inoperative"
    assert row["detail"] == "until Wed 01 Jul 12:00, command 7"


def test_the_storage_tells_who_is_in_control_whatever_it_is_called() -> None:
    content = microgrid().model_dump(mode="json")
    content["controllers"][0]["ess"][0]["id"] = "powerwall"
    site = Site.model_validate(content)
    columns = ("ev-1", "active_power_limit_kw", "idle"), ("powerwall", "reactive_power_setpoint_kvar", "grid_operator")
    rows = [
        Control(asset, quantity, 1.0, 1.0, 1.0, layer, "why", NOON, "ok")
        for asset, quantity, layer in (*columns, ("powerwall", "active_power_setpoint_kw", "plan"))
    ]
    assert in_control(rows, site, NOON) == ("Plan", "why")


def test_the_control_table_tells_limits_from_setpoints_and_kvar_from_kw() -> None:
    site = microgrid()
    frame = pl.DataFrame(
        {
            "asset_id": ["ess-1", "ess-1", "pv-1"],
            "quantity": ["active_power_setpoint_kw", "reactive_power_setpoint_kvar", "active_power_limit_kw"],
            "requested": [1.0, 20.0, 400.0],
            "sent": [1.0, 20.0, 400.0],
            "readback": [1.0, None, 400.0],
            "layer": ["plan", "grid_operator", "plan"],
            "reason": ["plan 2", "Q(U)", "plan 2"],
            "valid_until": [NOON + timedelta(minutes=1)] * 3,
            "status": ["ok"] * 3,
        }
    )
    rows = re.findall(r"<tr><td.*?</tr>", control_html(controls_of(frame), site, NOON))
    assert [re.sub(r"<[^>]+>", " ", row).split()[:4] for row in rows] == [
        ["ess-1", "setpoint", "1.0", "kW"],
        ["ess-1", "reactive", "20.0", "kvar"],
        ["pv-1", "limit", "400.0", "kW"],
    ]


def test_next_hour_begins_with_the_interval_that_runs() -> None:
    values = plan_values(microgrid(), datetime(2026, 6, 1, tzinfo=UTC))
    table = next_hour(values, NOON)
    times = [datetime.fromisoformat(column) for column in table.columns[2:]]
    assert times == [datetime(2026, 6, 1, 10, minute, tzinfo=UTC) for minute in (0, 15, 30, 45)]


def test_costs_are_named_and_totals_left_out() -> None:
    frame = cost_frame({"energy_import": 3.0, "battery_wear": 0.0, "total_eur": 3.0, "own_thing": 1.5, "ok": True})
    assert frame.rows() == [("Energy bought", 3.0), ("Own thing", 1.5)]


def test_saving_is_unknown_when_a_cost_is() -> None:
    assert saving(80.0, 100.0) == (20.0, 0.2)
    assert saving(-30.0, -20.0) == (10.0, 0.5)
    assert saving(None, 100.0) is None


def test_accuracy_counts_only_what_was_measured_and_forecast() -> None:
    times = [NOON + timedelta(minutes=15 * i) for i in range(4)]
    forecast = pl.DataFrame({"time": times, "value": [10.0] * 4, "p10": [8.0] * 4, "p90": [12.0] * 4})
    measured = pl.DataFrame({"time": times, "value": [11.0, 14.0, None, 9.0]})
    before = pl.DataFrame({"time": [t - timedelta(days=7) for t in times], "value": [11.0, 10.0, 3.0, 9.0]})
    found = accuracy(forecast, measured, before)
    assert found is not None
    assert found.mae == pytest.approx(2.0)
    assert found.naive_mae == pytest.approx(4 / 3)
    assert found.covered == pytest.approx(2 / 3)
    assert accuracy(forecast, measured.clear(), before) is None


def test_thin_data_are_marked_in_the_kpi_table() -> None:
    frame = pl.DataFrame(
        {
            "kpi": ["cost", "soh"],
            "scope": ["site", "ess-1"],
            "value": [84.123, None],
            "unit": ["EUR", "fraction"],
            "coverage": [0.6, None],
            "reference": [None, "nameplate"],
        }
    )
    rows = {row["indicator"]: row for row in kpi_table(frame).iter_rows(named=True)}
    assert rows["Cost"]["value"] == "84.12 EUR"
    assert "⚠" in rows["Cost"]["good data"]
    assert rows["State of health"]["value"] == "– %"
    assert rows["State of health"]["compared with"] == "nameplate"


@pytest.mark.parametrize(
    ("day", "intervals"), [(date(2026, 3, 29), 92), (date(2026, 10, 25), 100), (date(2026, 6, 1), 96)]
)
def test_a_full_day_is_complete_whatever_its_length(day: date, intervals: int) -> None:
    start, _ = day_bounds(day, AMSTERDAM)
    frame = pl.DataFrame(
        {
            "asset_id": ["pcc"] * intervals,
            "quantity": ["active_power_kw"] * intervals,
            "time": [start + i * timedelta(minutes=15) for i in range(intervals)],
            "value": [1.0] * intervals,
            "flag": [None] * intervals,
        },
        schema_overrides={"flag": pl.String},
    )
    points = [("pcc", "active_power_kw"), ("ess-1", "soc")]
    full, never = completeness(frame, points, [day], AMSTERDAM).iter_rows(named=True)
    assert (full["good"], full["flagged"], full["missing"]) == (1.0, 0, 0)
    assert (never["good"], never["missing"]) == (0.0, intervals)
    flagged = frame.with_columns(pl.lit("frozen,missing").alias("flag"))
    assert completeness(flagged, points[:1], [day], AMSTERDAM)["good"].to_list() == [0.0]
    assert flag_counts(flagged).select("point", "found", "intervals").rows() == [
        ("pcc active_power_kw", "frozen value, missing", intervals)
    ]


@given(st.lists(st.none() | st.floats(-0.05, 1.05), max_size=60))
def test_time_by_soc_adds_up(values: list[float | None]) -> None:
    bands = time_by_soc(pl.DataFrame({"value": values}, schema={"value": pl.Float64}))
    known = [value for value in values if value is not None]
    assert bands.height == 10
    assert bands["share"].sum() == pytest.approx(1.0 if known else 0.0)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(-0.04), "0.0"),
        (number(float("nan")), "–"),
        (number(-1234.5), "−1\u202f234.5"),
        (power(12_345.0), "12.35 MW"),
        (percent(0.5234, 2), "52.34 %"),
        (with_unit(0.0815, "EUR/kWh"), "0.0815 EUR/kWh"),
        (duration(59.6), "1 min"),
        (duration(7500), "2 h 5 min"),
        (duration(-3), "0 s"),
    ],
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    ("span", "step"),
    [(timedelta(hours=6), "1m"), (timedelta(days=3), "5m"), (timedelta(days=14), "15m"), (timedelta(days=800), "1d")],
)
def test_history_takes_a_step_that_suits_the_period(span: timedelta, step: str) -> None:
    assert step_for(span) == step


def test_values_that_come_more_rarely_than_the_step_are_joined_and_real_gaps_are_not() -> None:
    minutes = [0, 5, 10, 15, 20, 25, 30, 35, 120, 125]
    values = [1.0, None, None, 2.0, None, None, 3.0, None, 4.0, None]
    frame = pl.DataFrame(
        {
            "asset_id": ["pcc"] * 10,
            "quantity": ["active_power_kw"] * 10,
            "time": [NOON + timedelta(minutes=m) for m in minutes],
            "value": values,
        }
    )
    drawn = by_unit(frame, [("pcc", "active_power_kw", "kW")])["kW"]
    assert drawn["value"].to_list() == [1.0, 2.0, 3.0, None, 4.0]


def test_history_is_drawn_in_words_and_states_of_charge_in_per_cent() -> None:
    units = {(asset, quantity): unit for asset, quantity, unit in measured_points(microgrid())}
    assert [units["ess-1", quantity] for quantity in ("soc", "available", "active_power_kw")] == ["%", "", "kW"]
    frame = pl.DataFrame(
        {
            "asset_id": ["ess-1", "pcc"],
            "quantity": ["soc", "voltage_l2_v"],
            "time": [NOON, NOON],
            "value": [0.25, 231.0],
        }
    )
    drawn = by_unit(frame, [("ess-1", "soc", "%"), ("pcc", "voltage_l2_v", "V")])
    assert {unit: part.select("series", "value").row(0) for unit, part in drawn.items()} == {
        "%": ("ess-1 SoC", 25.0),
        "V": ("pcc voltage L2", 231.0),
    }


def test_the_browser_is_told_to_warn_by_itself_when_no_new_picture_comes() -> None:
    site = microgrid()
    image = live_image(live_frame(site, NOON))
    pictures = [live_html(site, image, None, NOON, turn) for turn in range(3)]
    names = [re.findall(r'class="fx-late (fx-late-[01])"', picture) for picture in pictures]
    assert names == [["fx-late-0"], ["fx-late-1"], ["fx-late-0"]]
    for name in ("fx-late0", "fx-late1"):
        assert f"@keyframes {name}" in CSS


def test_a_reason_stays_text_where_markdown_is_drawn() -> None:
    assert plain("![x](http://evil.example)") == r"\!\[x\]\(http\://evil.example\)"
