"""Workbooks, Green Button and IEC 61968-9: the same readings as the CSV would give, the same checks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from flexergy_pipelines.grid.samples import sample_site
from ingestion.meters.catalogue import CATALOGUE, S21, S29, by_name, platform_values
from ingestion.meters.checking import FileRefusedError
from ingestion.meters.formats import read_batches
from ingestion.meters.points import point_map

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
START = datetime(2026, 11, 20, 9, tzinfo=UTC)


def checked(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    batches = list(read_batches(path, {"microgrid": point_map(sample_site("microgrid"))}, NOW, "microgrid"))
    return pl.concat([b.accepted for b in batches]), pl.concat([b.rejected for b in batches])


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.requirement("infra.02.6")
def test_the_catalogue_holds_the_load_profile_and_the_instantaneous_values() -> None:
    profile = {item.code for item in S29}
    assert profile >= {"AIi", "AEi", "R1i", "R2i", "R3i", "R4i"}
    assert profile >= {f"{name}_L{phase}" for name in ("AIi", "AEi") for phase in (1, 2, 3)}
    assert {item.period_s for item in S29} == {300}
    instant = {item.code for item in S21}
    names = ("P_imp", "P_exp", "Q_imp", "Q_exp", "V")
    assert instant == {f"{name}_L{phase}" for name in names for phase in (1, 2, 3)}
    assert all(item.period_s < 300 for item in S21)
    assert len({item.obis for item in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("spelling", ["AIi", "1.29.0", "1-0:1.29.0", "1-0:1.29.0.255", "1-0:1.29.0*255"])
def test_an_object_is_found_by_every_usual_spelling(spelling: str) -> None:
    found = by_name(spelling)
    assert found is not None
    assert found.code == "AIi"


def test_unknown_objects_are_none() -> None:
    assert by_name("1-0:99.99.0.255") is None
    assert by_name("nonsense") is None


def test_increments_become_mean_power_and_phases_only_count_together() -> None:
    assert platform_values({"AIi": 2.0, "AEi": 0.5, "R1i": 1.0, "R4i": 0.25}, 300) == {
        "active_power_kw": 18.0,
        "reactive_power_kvar": 9.0,
    }
    phases = {"P_imp_L1": 1.0, "P_imp_L2": 2.0, "P_exp_L3": 4.0, "V_L1": 231.0}
    by_phase = {"active_power_l1_kw": 1.0, "active_power_l2_kw": 2.0, "active_power_l3_kw": -4.0}
    assert platform_values(phases, 60) == {"active_power_kw": -1.0, "voltage_l1_v": 231.0, **by_phase}
    two = platform_values({"P_imp_L1": 1.0, "P_imp_L2": 2.0}, 60)
    assert two == {"active_power_l1_kw": 1.0, "active_power_l2_kw": 2.0}


ESPI = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:espi="http://naesb.org/espi">
 <entry><title>pcc-meter</title><content><espi:UsagePoint/></content></entry>
 <entry><content><espi:ReadingType><espi:flowDirection>1</espi:flowDirection>
   <espi:powerOfTenMultiplier>0</espi:powerOfTenMultiplier><espi:uom>{unit}</espi:uom></espi:ReadingType></content></entry>
 <entry><content><espi:IntervalBlock>
   <espi:IntervalReading><espi:timePeriod><espi:duration>900</espi:duration><espi:start>{start}</espi:start></espi:timePeriod>
     <espi:value>5000</espi:value></espi:IntervalReading>
   <espi:IntervalReading><espi:timePeriod><espi:duration>0</espi:duration><espi:start>{start}</espi:start></espi:timePeriod>
     <espi:value>1</espi:value></espi:IntervalReading>
 </espi:IntervalBlock></content></entry>
 <entry><content><espi:ReadingType><espi:flowDirection>19</espi:flowDirection>
   <espi:powerOfTenMultiplier>3</espi:powerOfTenMultiplier><espi:uom>72</espi:uom></espi:ReadingType></content></entry>
 <entry><content><espi:IntervalBlock>
   <espi:IntervalReading><espi:timePeriod><espi:duration>900</espi:duration><espi:start>{start}</espi:start></espi:timePeriod>
     <espi:value>8</espi:value></espi:IntervalReading>
 </espi:IntervalBlock></content></entry>
</feed>"""


def test_green_button_energy_of_both_directions_becomes_net_power(tmp_path: Path) -> None:
    path = written(tmp_path, "usage.xml", ESPI.format(start=int(START.timestamp()), unit=72))
    accepted, rejected = checked(path)
    # 5 kWh drawn and 8 kWh given within a quarter of an hour: -12 kW.
    assert accepted.select("asset_id", "quantity", "time", "value").rows() == [("pcc", "active_power_kw", START, -12.0)]
    assert "duration above 0 s" in rejected["reason"][0]


def test_green_button_of_another_unit_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, "usage.xml", ESPI.format(start=int(START.timestamp()), unit=38))
    _, rejected = checked(path)
    assert "unit of measure 38 is not taken" in "; ".join(rejected["reason"])


READINGS = """<MeterReadings xmlns="http://iec.ch/TC57/2011/MeterReadings#">
 <MeterReading><Meter><Names><name>{meter}</name></Names></Meter>
  <Readings><timeStamp>{end}</timeStamp><value>1.5</value>
   <ReadingType ref="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"/></Readings>
  <Readings><timeStamp>{end}</timeStamp><value>230.5</value><ReadingType ref="1-0:32.7.0.255"/></Readings>
  <Readings><timeStamp>{end}</timeStamp><value>12345</value>
   <ReadingType ref="0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"/></Readings>
  <Readings><timeStamp>{end}</timeStamp><value>oops</value><ReadingType ref="AIi"/></Readings>
  <Readings><timeStamp>yesterday</timeStamp><value>1</value><ReadingType ref="AIi"/></Readings>
  <Readings><timeStamp>{end}</timeStamp><value>1</value><ReadingType ref="1.2.3"/></Readings>
 </MeterReading>
</MeterReadings>"""


def test_meter_readings_by_reading_type_and_by_obis(tmp_path: Path) -> None:
    path = written(tmp_path, "head-end.xml", READINGS.format(meter="pcc-meter", end="2026-11-20T10:15:00+01:00"))
    accepted, rejected = checked(path)
    found = {row["quantity"]: (row["time"], row["value"]) for row in accepted.iter_rows(named=True)}
    end = datetime(2026, 11, 20, 9, 15, tzinfo=UTC)
    # The quarter of an hour that ends at 09:15 begins at 09:00; instants and counters keep their stamp.
    assert found == {
        "active_power_kw": (START, 6.0),
        "voltage_l1_v": (end, 230.5),
        "import_energy_kwh": (end, 12345.0),
    }
    assert rejected["reason"].to_list() == [
        "value 'oops' is not a number",
        "time 'yesterday' is not ISO 8601 with offset",
        "reading type '1.2.3' is not taken",
    ]


def test_an_unknown_meter_in_xml_is_rejected_like_in_any_file(tmp_path: Path) -> None:
    path = written(tmp_path, "head-end.xml", READINGS.format(meter="nobody", end="2026-11-20T09:15:00Z"))
    accepted, rejected = checked(path)
    assert accepted.is_empty()
    assert "point 'nobody/active_power_kw' is unknown" in rejected["reason"].to_list()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE feed [<!ENTITY a "aaaa">]><feed>&a;</feed>', "document type or entities"),
        ("<MeterReadings><MeterReading></MeterReadings>", "not well-formed XML"),
        ("<weather/>", "XML of <weather> is unknown"),
    ],
)
def test_xml_that_is_none_or_a_trap_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(FileRefusedError, match=reason):
        checked(written(tmp_path, "bad.xml", text))


def test_a_workbook_with_real_dates_and_numbers(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Meter", "Quantity", "Time", "Value", "Unit"])
    sheet.append(["pcc-meter", "active_power_kw", datetime(2026, 11, 20, 10, 0), 12500, "W"])  # noqa: DTZ001 - as Excel has it
    sheet.append(["load-meter", "active_power_kw", datetime(2026, 11, 20, 10, 15), 7.25, None])  # noqa: DTZ001
    sheet.append(["pcc-meter", "active_power_kw", "noon", 1, "kW"])
    sheet.append([None, None, None, None, None])
    path = tmp_path / "meters.xlsx"
    book.save(path)
    accepted, rejected = checked(path)
    assert accepted["value"].to_list() == [12.5, 7.25]
    assert accepted["time"].to_list() == [START, datetime(2026, 11, 20, 9, 15, tzinfo=UTC)]
    assert rejected.select("row", "reason").row(0) == (4, "time 'noon' is not ISO 8601 (2026-03-01T12:00:00+01:00)")
