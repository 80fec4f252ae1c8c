"""Register maps and their codec: what simulator and control loop rely on to understand each other."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flexergy_pipelines.grid import TemplateError, TemplatePoint, decode, encode, load_template
from flexergy_pipelines.grid.connection import Connection
from flexergy_pipelines.grid.points import REQUIRED_QUANTITIES
from flexergy_pipelines.grid.templates import DeviceTemplate, decode_unsigned32, encode_unsigned32, template_names

TYPES = ["int16", "uint16", "int32", "uint32", "float32"]
LIMITS = {"int16": 2**15 - 1, "uint16": 2**16 - 2, "int32": 2**31 - 1, "uint32": 2**32 - 2, "float32": 10**6}


def point(kind: str, scale: float = 1.0, order: str = "big") -> TemplatePoint:
    return TemplatePoint.model_validate(
        {"quantity": "q", "table": "input", "address": 0, "type": kind, "scale": scale, "word_order": order}
    )


@pytest.mark.requirement("com.01.1")
@given(
    st.sampled_from(TYPES),
    st.sampled_from(["big", "little"]),
    st.sampled_from([1.0, 0.1, 0.01, 10.0]),
    st.floats(-1, 1),
)
def test_a_value_comes_back_within_its_resolution(kind: str, order: str, scale: float, share: float) -> None:
    register = point(kind, scale, order)
    value = (abs(share) if kind.startswith("u") else share) * LIMITS[kind] * scale
    registers = encode(register, value)
    assert len(registers) == register.width
    assert all(0 <= word <= 0xFFFF for word in registers)
    back = decode(register, registers)
    assert back is not None
    resolution = abs(value) * 1e-6 + 1e-30 if kind == "float32" else scale / 2 * (1 + 1e-9) + math.ulp(value)
    assert abs(back - value) <= resolution


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ["big", "little"])
def test_no_value_is_never_zero(kind: str, order: str) -> None:
    register = point(kind, order=order)
    assert decode(register, encode(register, None)) is None


def test_words_are_in_the_order_of_the_template() -> None:
    assert encode(point("uint32"), 0x0001_0002) == [1, 2]
    assert encode(point("uint32", order="little"), 0x0001_0002) == [2, 1]
    assert encode(point("int16"), -1) == [0xFFFF]
    assert decode(point("int16"), [0xFFFE]) == -2


@pytest.mark.parametrize(
    ("kind", "value"), [("int16", 32768), ("uint16", -1), ("uint16", 65535), ("int32", 2**31), ("uint32", 2**32 - 1)]
)
def test_values_that_do_not_fit_are_refused(kind: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"q: .* is outside"):
        encode(point(kind), value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", TYPES)
def test_values_that_are_no_numbers_are_not_sent(kind: str, value: float) -> None:
    with pytest.raises(ValueError, match="is not a finite number"):
        encode(point(kind), value)


def test_a_reply_of_the_wrong_length_is_not_interpreted() -> None:
    with pytest.raises(ValueError, match="got 1 registers, expected 2"):
        decode(point("int32"), [1])


@pytest.mark.requirement("com.01.1")
@pytest.mark.parametrize("name", template_names())
def test_shipped_templates_hold_together(name: str) -> None:
    template = load_template(name)
    assert {p.quantity for p in template.points} <= template.quantities
    for quantity in [p.quantity for p in template.points]:
        first, second = template.point(quantity, 0), template.point(quantity, 1)
        assert second.address - first.address == template.asset_stride
        assert first.word_order == template.word_order
    if template.schedule is not None:
        slots = [template.schedule.point(i) for i in range(template.schedule.slots)]
        taken = {a for p in slots for a in range(p.address, p.address + p.width)}
        taken |= {template.schedule.start_address, template.schedule.start_address + 1}
        assert len(taken) == 4 * slots[0].width + 2
        assert max(taken) < template.asset_stride
        assert template.point(template.schedule.quantity).writable


@pytest.mark.requirement("energy.12.1")
def test_every_storage_and_source_takes_the_next_hour_in_four_quarters() -> None:
    for name in ("generic_esc", "generic_res_controller"):
        schedule = load_template(name).schedule
        assert schedule is not None
        assert (schedule.slots, schedule.slot_minutes) == (4, 15)


def test_each_kind_has_a_template_with_all_it_needs() -> None:
    for name, kind in {
        "generic_esc": "ess",
        "generic_res_controller": "pv",
        "generic_genset_controller": "genset",
        "generic_load_controller": "controllable_load",
        "generic_ev_manager": "ev",
        "generic_meter": "pcc",
        "sunspec_inverter": "pv",
        "sunspec_storage": "ess",
    }.items():
        assert set(REQUIRED_QUANTITIES[kind]) <= load_template(name).quantities


def test_unknown_templates_and_quantities_are_named() -> None:
    with pytest.raises(TemplateError, match="template acme is unknown, known are generic_esc"):
        load_template("acme")
    with pytest.raises(TemplateError, match=r"template \.\./x is unknown"):
        load_template("../x")
    with pytest.raises(TemplateError, match="template generic_meter does not provide soc"):
        load_template("generic_meter").point("soc")


@given(st.integers(0, 2**32 - 1), st.sampled_from(["big", "little"]))
def test_epoch_seconds_come_back(value: int, order: str) -> None:
    word_order = "big" if order == "big" else "little"
    assert decode_unsigned32(encode_unsigned32(value, word_order), word_order) == value


OWN = """
description: A meter that counts what is fed in as positive
word_order: little
points:
  - {quantity: active_power_kw, table: holding, address: 10, type: int32, scale: -0.001}
  - {quantity: frequency_hz, table: input, address: 4, type: float32, word_order: big}
  - {quantity: running, table: coil, address: 3, type: bit}
"""


def test_a_template_of_the_installation_is_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    with pytest.raises(TemplateError, match="template acme_meter is unknown, known are generic_esc"):
        load_template("acme_meter")
    file = tmp_path / "templates" / "acme_meter.yaml"
    file.parent.mkdir()
    file.write_text(OWN)
    power, frequency, _ = load_template("acme_meter").points
    assert "acme_meter" in template_names()
    assert encode(power, -2.5) == [2500, 0]
    assert decode(power, [0xFFFF, 0xFFFF]) == pytest.approx(0.001)
    assert frequency.word_order == "big"
    with pytest.raises(ValueError, match=r"3000000.0 is outside -2.14748e\+06\.\.2.14748e\+06 of int32"):
        encode(power, 3e6)
    for wrong, message in (
        (OWN.replace("-0.001", "0"), r"template acme_meter: points.0.scale: .*must not be 0"),
        (OWN.replace("type: bit", "type: uint16"), "type bit and tables coil and discrete go together"),
        (OWN + "points: [", "acme_meter.yaml: is no YAML"),
        ("- 1", "template acme_meter: is no mapping"),
        ("points: [1]", "template acme_meter: "),
        ("word_order: big", "template acme_meter: points: Field required"),
    ):
        file.write_text(wrong)
        os.utime(file, ns=(1, hash(wrong) % 10**15))
        with pytest.raises(TemplateError, match=message):
            load_template("acme_meter")
    (tmp_path / "templates" / "generic_esc.yaml").write_text(OWN)
    assert load_template("generic_esc").schedule is not None, "what ships is not replaced"


def test_bits_of_one_register_are_points_of_their_own() -> None:
    bits = [
        {"quantity": q, "table": "input", "address": 7, "type": "uint32", "bit": b} for q, b in (("a", 0), ("b", 17))
    ]
    template = DeviceTemplate.model_validate({"name": "bits", "points": bits})
    first, second = template.points
    assert [decode(first, [2, 1]), decode(second, [2, 1])] == [1.0, 1.0]
    assert decode(first, [0xFFFF, 0xFFFF]) == 1.0, "all bits set is no missing value"
    assert (encode(second, 1.0), encode(second, 0.0)) == ([2, 0], [0, 0])
    for wrong, message in (
        ({"bit": 0}, "register 7 holds both a and b"),
        ({"bit": 32}, "b: bit 32 is none of type uint32"),
        ({"type": "float32"}, "b: bit 17 is none of type float32"),
        ({"access": "rw", "table": "holding"}, "b: a bit of a register is only read"),
    ):
        with pytest.raises(ValidationError, match=message):
            DeviceTemplate.model_validate({"name": "bits", "points": [bits[0], bits[1] | wrong]})


@pytest.mark.parametrize(
    ("protocol", "unit", "good"),
    [("modbus_tcp", 255, True), ("modbus_tcp", 0, True), ("modbus_tcp", 256, False), ("iec104", 65_534, True),
     ("iec61850", 300, False)],
)  # fmt: skip
def test_unit_ids_are_those_of_the_protocol(protocol: str, unit: int, good: bool) -> None:
    told = {"protocol": protocol, "port": 502, "unit_id": unit, "template": "generic_esc"}
    if good:
        assert Connection.model_validate(told).unit_id == unit
    else:
        with pytest.raises(ValidationError, match=f"unit_id {unit} is outside"):
            Connection.model_validate(told)
