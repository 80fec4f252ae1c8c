"""Sites: what is accepted, what is refused and how clearly, and that nothing is lost on the way through a file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.grid import (
    ESS,
    EVBlock,
    Genset,
    PVPlant,
    Site,
    SiteError,
    WindTurbine,
    dump_site,
    load_site_file,
    parse_site,
    parse_site_text,
    site_json_schema,
    site_to_dict,
)
from flexergy_pipelines.grid.samples import SAMPLE_FILES, sample_site, sample_sites

MICROGRID = sample_site("microgrid")


def microgrid() -> dict[str, Any]:
    return site_to_dict(MICROGRID)


def problems_of(raw: object) -> list[str]:
    with pytest.raises(SiteError) as caught:
        parse_site(raw)
    return caught.value.problems


def changed(path: str, value: Any) -> dict[str, Any]:
    """The microgrid with one field (such as ``controllers.0.ess.0.soc_min``) set to `value`."""
    raw = microgrid()
    target: Any = raw
    *way, last = path.split(".")
    for part in way:
        target = target[int(part)] if part.isdigit() else target[part]
    target[int(last) if last.isdigit() else last] = value
    return raw


@pytest.mark.requirement("asset.01.1", "asset.02.1")
def test_the_samples_hold_every_kind_of_asset_with_its_controller() -> None:
    site = sample_site("microgrid")
    kinds = {asset.id: asset.kind for asset in site.assets()}
    assert kinds == {
        "ess-1": "ess",
        "pv-1": "pv",
        "wind-1": "wind",
        "genset-1": "genset",
        "cold-store": "controllable_load",
        "ev-1": "ev",
        "load-1": "load",
        "pcc": "pcc",
    }
    controllers = {asset: getattr(site.controller_of(asset), "id", None) for asset in kinds}
    assert controllers == {
        "ess-1": "esc-1",
        "pv-1": "res-1",
        "wind-1": "res-1",
        "genset-1": "genset-ctl-1",
        "cold-store": "load-ctl-1",
        "ev-1": "ev-1",
        "load-1": None,
        "pcc": None,
    }
    assert {s.kind for s in sample_sites()} == {"microgrid", "power_plant"}


@pytest.mark.requirement("asset.01.2", "asset.01.3", "asset.01.4", "asset.01.5")
@pytest.mark.parametrize(
    ("controller", "children"), [(0, "ess"), (1, "sources"), (2, "gensets"), (3, "loads"), (4, "charge_points")]
)
def test_a_controller_manages_one_or_more_of_its_own_kind(controller: int, children: str) -> None:
    raw = microgrid()
    second = copy.deepcopy(raw["controllers"][controller][children][0]) | {"id": "one-more"}
    raw["controllers"][controller][children].append(second)
    site = parse_site(raw)
    if children != "charge_points":
        owner = site.controller_of("one-more")
        assert owner is not None
        assert owner.id == raw["controllers"][controller]["id"]
    raw["controllers"][controller][children] = []
    assert any(children in line and "at least 1" in line for line in problems_of(raw))


@pytest.mark.requirement("asset.02.2")
def test_every_site_needs_exactly_one_meter_at_its_grid_connection() -> None:
    [line] = problems_of(changed("meters.0.role", "sub"))
    assert line == "meters: no meter has role pcc; a site needs exactly one at its grid connection"
    raw = changed("meters.1.role", "pcc")
    raw["loads"] = []
    raw["replay"] = None
    assert "meters: pcc-meter and load-meter have role pcc; a site needs exactly one" in problems_of(raw)
    assert sample_site("microgrid").meter_of("pcc") is not None


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("controllers.0.ess.0.soc_min", 0.96, "controllers[0].ess[0] ess-1: soc_min 0.96 is above soc_max 0.95"),
        ("controllers.0.ess.0.charge_efficiency", 0, "controllers[0].ess[0].charge_efficiency ess-1: 0 is not allowed"),
        ("controllers.0.ess.0.charge_efficiency", 1.01, "should be less than or equal to 1"),
        ("controllers.0.ess.0.max_charge_kw", -5, "should be greater than 0"),
        ("controllers.0.ess.0.energy_capacity_kwh", True, "should be a valid number"),
        ("controllers.0.ess.0.energy_capacity_kwh", "500", "should be a valid number"),
        ("controllers.0.ess.0.chemistry", "lead", 'controllers[0].ess[0].chemistry ess-1: "lead" is not allowed'),
        (
            "controllers.2.gensets.0.min_kw",
            200,
            "controllers[2].gensets[0] genset-1: min_kw 200.0 is above max_kw 150.0",
        ),
        ("controllers.3.loads.0.curtail_steps", [0.5, 0.75], "curtail_steps: 0.75 does not fall below 0.5"),
        ("grid_connection.import_limit_kw", -1, "grid_connection.import_limit_kw pcc: -1 is not allowed"),
        ("grid_connection.id", "main", "grid_connection: id is main, it must be pcc"),
        ("time_zone", "Mars/Olympus", "time_zone: Mars/Olympus is no IANA time zone"),
        ("time_zone", "../etc/passwd", "is no IANA time zone"),
        ("country", "Netherlands", "country"),
        ("id", "Micro Grid", "id"),
        ("controllers.1.id", "esc-1", "id esc-1 is given 2 times"),
        ("controllers.1.sources.0.kind", "tidal", "kind tidal is unknown, allowed are 'pv', 'wind'"),
        ("controllers.0.connection.template", "acme", "controllers[0].connection esc-1: template acme is unknown"),
        (
            "controllers.0.connection.template",
            "generic_meter",
            "template generic_meter does not provide soc, max_charge_kw, max_discharge_kw, available, "
            "active_power_setpoint_kw of ess ess-1",
        ),
        ("controllers.0.connection.port", 70000, "controllers[0].connection.port esc-1: 70000 is not allowed"),
        ("controllers.0.connection.port", 15022, "127.0.0.1:15022 unit 1 is already the address of esc-1"),
        ("loads.0.meter", "nowhere", "loads[0] load-1: meter nowhere is unknown"),
        ("loads.0.meter", "pcc-meter", "loads[0] load-1: meter pcc-meter has role pcc, it must be load"),
        ("loads.0.bus", "attic", "load-1: bus attic is unknown"),
        ("network.lines.0.to_bus", "attic", "network: line cable-offices names unknown bus attic"),
        ("network.lines", [], "network: bus offices is not connected to pcc_bus busbar"),
        ("operation.use_case", 6, "operation.use_case: 6 is not allowed"),
        ("operation.day_ahead_time", "24:00", "operation.day_ahead_time"),
        ("forecasts.horizon_hours", 49, "forecasts.horizon_hours: 49 is not allowed"),
        ("forecasts.excluded_assets", ["pv-9"], "forecasts.excluded_assets: asset pv-9 is unknown"),
        ("replay.series.0.asset", "load-9", "replay.series[0]: asset load-9 is unknown"),
        ("replay.series.0.columns.0.file", "../../etc/passwd", "replay.series[0].columns[0].file"),
        ("colour", "green", "colour: is no known field"),
    ],
)
def test_what_is_wrong_is_named_with_its_path_and_what_is_allowed(path: str, value: Any, expected: str) -> None:
    lines = problems_of(changed(path, value))
    assert any(expected in line for line in lines), lines
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    [line] = problems_of(changed("controllers.0.ess.0.max_charge_kw", value))
    assert line.startswith("controllers[0].ess[0].max_charge_kw ess-1:")


def test_every_problem_is_told_at_once() -> None:
    raw = changed("controllers.0.ess.0.soc_min", 0.99)
    raw["grid_connection"]["export_limit_kw"] = -3
    del raw["name"]
    lines = problems_of(raw)
    assert len(lines) == 3
    assert "name: is missing" in lines


def test_a_cycle_of_concentrators_is_found() -> None:
    raw = microgrid()
    raw["concentrators"] = [{"id": "dc-1", "parent": "dc-2"}, {"id": "dc-2", "parent": "dc-1"}]
    assert "concentrators[0] dc-1: parents form a cycle: dc-1 > dc-2 > dc-1" in problems_of(raw)


@pytest.mark.requirement("asset.01.1")
def test_meters_hang_on_concentrators_and_concentrators_on_each_other() -> None:
    raw = microgrid()
    raw["concentrators"] = [{"id": "dc-1"}, {"id": "dc-2", "parent": "dc-1", "network_type": "PLC"}]
    raw["meters"][1]["concentrator"] = "dc-2"
    site = parse_site(raw)
    assert site.meters[1].concentrator == "dc-2"
    raw["meters"][1]["concentrator"] = "dc-3"
    assert "meters[1] load-meter: concentrator dc-3 is unknown" in problems_of(raw)


def test_a_key_that_is_given_twice_is_refused() -> None:
    text = dump_site(sample_site("microgrid"))
    with pytest.raises(SiteError, match=r"line \d+: key name is given twice"):
        parse_site_text(text + "\nname: another\n")


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- b", "{unclosed: [", "a: &a [*a]", "!!python/object:os.system {}"]
)
def test_text_that_is_no_site_gives_a_clear_error(text: str) -> None:
    with pytest.raises(SiteError) as caught:
        parse_site_text(text)
    assert caught.value.problems


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"nowhere\.yaml: cannot be read"):
        load_site_file(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(SiteError, match="is not UTF-8 text"):
        load_site_file(tmp_path / "latin.yaml")


@pytest.mark.requirement("infra.01.5")
@pytest.mark.parametrize("site_id", SAMPLE_FILES)
def test_samples_survive_file_and_dict_unchanged(site_id: str) -> None:
    site = sample_site(site_id)
    assert parse_site_text(dump_site(site)) == site
    assert parse_site(json.loads(json.dumps(site_to_dict(site)))) == site
    assert parse_site(site.model_dump(mode="json")) == site


names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=30)
kw = st.floats(0.001, 1e6, allow_nan=False)
unit = st.floats(0.01, 1.0)


@st.composite
def storages(draw: st.DrawFn, number: int) -> dict[str, Any]:
    low, high = sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))
    return {
        "id": f"battery-{number}",
        "name": draw(names),
        "energy_capacity_kwh": draw(kw),
        "max_charge_kw": draw(kw),
        "max_discharge_kw": draw(kw),
        "soc_min": low,
        "soc_max": high,
        "charge_efficiency": draw(unit),
        "discharge_efficiency": draw(unit),
        "soh": draw(unit),
        "data_sheet_url": draw(st.sampled_from([None, "https://example.org/sheet.pdf"])),
    }


def papers() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "manufacturer": names,
            "model_name": names,
            "serial_number": names,
            "commissioned": st.dates().map(str),
            "data_sheet_url": st.just("https://example.org/sheet.pdf"),
        },
    )


def investments() -> st.SearchStrategy[dict[str, Any]]:
    amounts = st.floats(0, 1e9)
    fields = {"capex_eur": amounts, "operation_eur_per_year": amounts, "lifetime_years": st.floats(1, 99)}
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def sites(draw: st.DrawFn) -> Site:
    raw = microgrid()
    raw["name"] = draw(names)
    raw["location"]["latitude_deg"] = draw(st.floats(-90, 90))
    raw["time_zone"] = draw(st.sampled_from(["Europe/Amsterdam", "Asia/Kathmandu", "America/St_Johns", "UTC"]))
    raw["controllers"][0]["ess"] = [draw(storages(i)) for i in range(draw(st.integers(1, 3)))]
    raw["controllers"][1]["sources"][0] |= draw(investments())
    raw["concentrators"] = [
        {"id": "dc-1", "network_type": draw(st.sampled_from(["GPRS", "UMTS", "LTE", "IoT", "RF"]))} | draw(papers()),
        {"id": "dc-2", "parent": "dc-1"},
    ]
    raw["meters"][1] |= {
        "concentrator": draw(st.sampled_from(["dc-1", "dc-2"])),
        "integration_period_minutes": draw(st.sampled_from([1, 5, 10, 15, 30, 60])),
        "billing_day": draw(st.integers(1, 28)),
        "tariff": draw(st.none() | names),
        "phase_connection": draw(st.sampled_from(["L1", "L2", "L3", "three_phase"])),
        "ct_ratio": draw(kw),
    } | draw(papers())
    raw["tariff"]["import_adder_eur_per_kwh"] = draw(st.floats(-1, 1))
    raw["history"]["rules"] = [
        {
            "quantity": "soc",
            "asset": None,
            "deadband": draw(st.floats(0, 1)),
            "retention_days": draw(st.integers(1, 99)),
        }
    ]
    return parse_site(raw)


@pytest.mark.requirement("infra.01.5")
@settings(max_examples=30, deadline=None)
@given(sites())
def test_any_valid_site_survives_file_and_dict_unchanged(site: Site) -> None:
    assert parse_site_text(dump_site(site)) == site
    assert parse_site(site_to_dict(site)) == site


@pytest.mark.requirement("energy.08.1", "asset.04.3")
def test_points_have_unit_range_and_a_storage_rule() -> None:
    site = sample_site("microgrid")
    points = {(p.asset_id, p.quantity): p for p in site.points()}
    assert len(points) == len(site.points())
    setpoint = points["ess-1", "active_power_setpoint_kw"]
    assert (setpoint.writable, setpoint.minimum, setpoint.maximum, setpoint.is_power) == (True, -250.0, 250.0, True)
    assert points["pcc", "frequency_hz"].unit == "Hz"
    assert not points["ess-1", "soc"].writable
    for asset in site.assets():
        assert (asset.id, "active_power_kw") in points
    rule = site.history.rule_for("ess-1", "soc")
    assert (rule.cyclic_s, rule.deadband, rule.retention_days) == (60.0, 0.005, 3650)
    assert site.history.rule_for("pv-1", "active_power_kw").deadband == 0.0


def test_the_more_specific_storage_rule_wins() -> None:
    raw = microgrid()
    raw["history"]["rules"] = [
        {"quantity": "soc", "asset": "ess-1", "cyclic_s": 5.0},
        {"quantity": "soc", "cyclic_s": 30.0, "deadband": 0.01},
    ]
    rule = parse_site(raw).history.rule_for("ess-1", "soc")
    assert (rule.cyclic_s, rule.deadband) == (5.0, 0.01)


def test_ev_charge_points_are_one_load_with_the_managers_id() -> None:
    raw = microgrid()
    raw["controllers"][4].pop("max_kw")
    [block] = parse_site(raw).ev_blocks()
    assert isinstance(block, EVBlock)
    assert (block.id, block.kind, block.rated_kw) == ("ev-1", "ev", 4 * 11.0 + 22.0 + 50.0)


def test_devices_list_their_assets_in_register_order() -> None:
    site = sample_site("hybrid-park")
    devices = {device.id: device for device in site.devices()}
    assert [a.id for a in devices["res-1"].assets] == ["wind-1", "wind-2", "wind-3", "wind-4", "pv-1"]
    assert devices["pcc-meter"].key == "hybrid-park/pcc-meter"
    assert [a.id for a in devices["load-meter"].assets] == ["load-1"]


def test_assets_that_do_not_exist_are_named() -> None:
    site = sample_site("microgrid")
    with pytest.raises(KeyError, match="site microgrid has no asset pv-7, only ess-1, pv-1"):
        site.asset("pv-7")
    with pytest.raises(KeyError, match="pv-1 has no soc, only active_power_kw"):
        site.point("pv-1", "soc")


def test_wear_is_priced_at_replacement_over_lifetime_throughput() -> None:
    ess = ESS(
        id="b",
        name="b",
        energy_capacity_kwh=100.0,
        max_charge_kw=50.0,
        max_discharge_kw=50.0,
        soc_min=0.1,
        soc_max=0.9,
        replacement_cost_eur_per_kwh=160.0,
    )
    # 6000 cycles at depth 0.8 discharge 4800 times the capacity.
    assert ess.wear_cost_eur_per_kwh == pytest.approx(160 / 4800)


@given(st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_deeper_cycles_never_last_longer(one: float, other: float) -> None:
    ess = MICROGRID.ess()[0]
    shallow, deep = sorted((one, other))
    assert ess.cycles_at(shallow) >= ess.cycles_at(deep) - 1e-9


def test_tariff_prices_include_adder_and_deduction() -> None:
    tariff = sample_site("microgrid").tariff
    assert tariff.import_price(0.05) == pytest.approx(0.135)
    assert tariff.export_price(0.05) == pytest.approx(0.045)


def test_the_schema_for_editors_describes_the_samples() -> None:
    schema = site_json_schema()
    json.dumps(schema)
    assert set(site_to_dict(sample_site("microgrid"))) <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert "controllers" in schema["properties"]


def test_sources_and_gensets_are_listed() -> None:
    site = sample_site("microgrid")
    assert [type(s) for s in site.sources()] == [PVPlant, WindTurbine]
    assert [type(g) for g in site.gensets()] == [Genset]
    assert [c.id for c in site.controllable_loads()] == ["cold-store"]
