"""Tables as people have them, and days that are wrong by a unit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.screening import screened
from flexergy_pipelines.forecasting.tables import DataError, columns_of, numeric, one_series, read_table
from tests.forecasting.data import utc


def test_a_price_file_with_blanks_in_its_header_and_commas_in_names(tmp_path: Path) -> None:
    path = tmp_path / "market.csv"
    path.write_text(
        'Date, Price,"Load, forecast", Wind\n2016-01-01 00:00:00, 1.5, 2, 3\n2016-01-01 01:00:00, -4, 5, 6\n'
    )
    frame = read_table(path, None, "UTC")
    assert numeric(frame, "price", "target").to_list() == [1.5, -4.0]
    assert columns_of(frame, "Load, forecast, wind", "weather") == ["Load, forecast", "Wind"]
    with pytest.raises(DataError, match="weather 'Sun' is not a column; the data has time, Price"):
        columns_of(frame, "Wind,Sun", "weather")


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("Zeit;Last\n01.02.2016 00:00;1,5\n01.02.2016 01:00;NA\n01.02.2016 02:00;2,25\n")
    frame = read_table(path, "zeit", "UTC")
    assert frame["time"].to_list() == [utc(2016, 2, 1, h) for h in range(3)]
    assert numeric(frame, "last", "target").to_list() == [1.5, None, 2.25]


def stacked() -> pl.DataFrame:
    times = [utc(2016, 1, 1) + timedelta(hours=k) for k in range(48)]
    return pl.concat([pl.DataFrame({"time": times, "y": [float(z)] * 48, "zone": [z] * 48}) for z in (1, 2, 3)])


def test_several_series_in_a_file_are_not_averaged() -> None:
    with pytest.raises(DataError, match=r"data holds 3 series, told apart by 'zone' \(1, 2, 3\); .*--where zone=1"):
        one_series(stacked(), [], ["time"])
    assert one_series(stacked(), ["zone=2"], ["time"])["y"].to_list() == [2.0] * 48
    with pytest.raises(DataError, match="where 'zone=9': column 'zone' holds 1, 2, 3"):
        one_series(stacked(), ["zone=9"], ["time"])
    with pytest.raises(DataError, match="where 'area=1' is not like COLUMN=VALUE"):
        one_series(stacked(), ["area=1"], ["time"])


def test_issues_of_one_series_and_a_few_repeated_stamps_are_one_series() -> None:
    one = stacked().filter(pl.col("zone") == 1)
    issues = pl.concat([one.with_columns(issued=pl.lit(k)) for k in range(3)])
    assert one_series(issues, [], ["time", "issued"]).height == 144
    assert one_series(pl.concat([one, one.head(10)]), [], ["time"]).height == 58


@pytest.mark.parametrize(("factor", "said"), [(1000.0, "too large"), (0.001, "too small")])
def test_days_in_another_unit_are_left_out_and_said(factor: float, said: str) -> None:
    times = [utc(2016, 1, 1) + timedelta(hours=k) for k in range(40 * 24)]
    values = 50 + 20 * np.sin(np.arange(40 * 24) / 4)
    wrong = np.where(
        (np.arange(values.size) // 24 >= 10) & (np.arange(values.size) // 24 < 13), values * factor, values
    )
    frame, notes = screened(pl.DataFrame({"time": times, "value": wrong}), "load")
    assert len(notes) == 1
    assert notes[0].startswith(f"3 days are {said}")
    assert frame["value"].null_count() == 72
    kept = frame["value"].is_not_null().to_numpy()
    np.testing.assert_allclose(frame["value"].drop_nulls().to_numpy(), values[kept])


def test_dull_days_of_a_source_and_spikes_of_a_price_stay() -> None:
    times = [utc(2016, 1, 1) + timedelta(hours=k) for k in range(20 * 24)]
    dull = np.where(np.arange(480) // 24 == 5, 0.01, 100.0)
    for kind, values in (("pv", dull), ("price", np.where(np.arange(480) == 99, 30_000.0, 30.0))):
        frame, notes = screened(pl.DataFrame({"time": times, "value": values}), kind)
        assert frame["value"].null_count() == 0
        assert notes == []
