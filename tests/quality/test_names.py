"""A file holds more than meters: prices, weather and angles are told by their headers and never called wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.quality.axis import Axis
from flexergy_pipelines.quality.files import Table
from flexergy_pipelines.quality.flags import DETECTED
from flexergy_pipelines.quality.kinds import infer_kind
from flexergy_pipelines.quality.names import kind_by_name
from flexergy_pipelines.quality.tables import TableReport, clean_table

DATA = Path("examples/data")


def found(report: TableReport) -> dict[str, dict[str, int]]:
    """What was called wrong, by channel."""
    wrong = {
        name: {flag: count for flag, count in channel.counts.items() if flag in DETECTED}
        for name, channel in report.channels.items()
    }
    return {name: counts for name, counts in wrong.items() if counts}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("wind_speed_ms", "weather"),
        ("windSpeed", "weather"),
        ("Wind Direction", "state"),
        ("wind power [kW]", "wind"),
        ("Turbine 4 active power", "wind"),
        ("roof-pv_kw", "pv"),
        ("solar_irradiance", "weather"),
        ("GHI (W/m^2)", "weather"),
        ("Außentemperatur", "weather"),
        ("temp1", "weather"),
        ("price_eur_mwh", "state"),
        ("EUR/kWh", "state"),
        ("availability_kwh", "state"),
        ("ac_voltage_inverter", "state"),
        ("soc", "state"),
        ("Hour", "state"),
        # What only sounds like weather or a price is a meter.
        ("value", None),
        ("factory_load", None),
        ("second_floor", None),
        ("train_station", None),
        ("tempering_oven_kw", None),
        ("pressure_pump_power_kw", None),
        ("Global_active_power", None),
        ("pvc_extruder_kw", None),
    ],
)
def test_a_header_tells_what_is_no_meter(name: str, kind: str | None) -> None:
    assert kind_by_name(name) == kind


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("file", ["price_nl_dayahead_60min", "wind_lahauteborne_60min", "load_victoria_30min"])
def test_nothing_is_called_wrong_in_real_weather_and_prices(file: str) -> None:
    frame = pl.read_parquet(DATA / f"{file}.parquet")
    frame = frame.select(frame.columns[0], *[name for name in frame.columns[1:] if kind_by_name(name) is not None])
    assert frame.width > 1
    assert found(clean_table(Table(frame))[1]) == {}
    # A kind that is given for the meters of a file is not meant for its weather.
    assert found(clean_table(Table(frame), "load")[1]) == {}


@pytest.mark.requirement("module.ami")
def test_faults_of_a_thermometer_are_found_all_the_same() -> None:
    frame = pl.read_parquet(DATA / "load_victoria_30min.parquet").head(48 * 120).select("time_utc", "temperature_c")
    values = frame["temperature_c"].cast(pl.Float64).to_numpy().copy()
    spikes = np.array([700, 1900, 2800, 4000])
    values[spikes] += 45.0
    values[3000:3040] = values[3000]
    clean, report = clean_table(Table(frame.with_columns(pl.Series("temperature_c", values))))
    flags = clean["temperature_c_flag"]
    assert flags[spikes.tolist()].to_list() == ["spike"] * 4
    assert set(flags[3001:3040]) == {"frozen"}
    assert report.channels["temperature_c"].counts == {"frozen": 39, "spike": 4}


def test_degrees_of_a_circle_are_told_by_their_leaps_across_north() -> None:
    wind = pl.read_parquet(DATA / "wind_lahauteborne_60min.parquet")
    degrees = wind["era5_wd100_deg"].cast(pl.Float64).to_numpy()
    power = wind["p_kw_R80711"].cast(pl.Float64).fill_null(0.0).to_numpy()
    none = np.zeros(0, dtype=bool)
    axis = Axis(np.zeros(0, np.int64), none, none, degrees.size, 60.0, 0, 0)
    assert infer_kind("value", degrees, axis) == "state"
    assert infer_kind("value", 360.0 * np.clip(power / power.max(), 0, 1), axis) == "wind"


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", ["Hydro1", "BM1", "ev_HLS_A_11.0", "ev_APLS_B_11.0"])
def test_machines_that_idle_and_charge_points_are_left_alone(name: str) -> None:
    frame = pl.read_parquet(DATA / "simbench_2016_15min.parquet")
    values = frame[name].cast(pl.Float64).interpolate().fill_null(0.0)
    times = [datetime(2016, 1, 1) + timedelta(minutes=15 * i) for i in range(values.len())]  # noqa: DTZ001
    _, report = clean_table(Table(pl.DataFrame({"time": times, "value": values})))
    wrong = found(report).get("value", {})
    assert "unit_slip" not in wrong
    assert sum(wrong.values()) < 2e-3 * values.len()


def test_a_series_that_is_nothing_but_zero_is_switched_off() -> None:
    times = [datetime(2024, 1, 1) + timedelta(minutes=15 * i) for i in range(960)]  # noqa: DTZ001
    values = np.zeros(960)
    values[400:402] = 0.15  # one short charge
    _, report = clean_table(Table(pl.DataFrame({"time": times, "value": values})), "load")
    assert found(report) == {}
