"""`flexergy backtest` as a user meets it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from flexergy_pipelines.forecasting.cli import app
from flexergy_pipelines.forecasting.tables import DataError, infer_step, read_table
from tests.forecasting.data import load_series, price_series, utc

SCORES = {"mae", "nmae", "rmse", "pinball", "coverage_80"}


@pytest.fixture(scope="module")
def demand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four months of demand and temperature, hourly, stamps without zone."""
    history, weather = load_series(utc(2013, 9, 1), utc(2013, 12, 30))
    table = history.join(weather, on="time").filter(pl.col("time").dt.minute() == 0)
    path = tmp_path_factory.mktemp("data") / "demand.csv"
    table.with_columns(pl.col("time").dt.replace_time_zone(None)).rename({"value": "demand_mw"}).write_csv(path)
    return path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.requirement("energy.03.1", "module.load")
def test_the_json_contract_and_the_file_of_forecasts_agree(demand: Path, tmp_path: Path) -> None:
    out = tmp_path / "forecasts.parquet"
    code, text, errors = run(
        "--data", str(demand), "--target", "demand_mw", "--kind", "load", "--weather", "temperature_c", "--json",
        "--from", "2013-12-01", "--to", "2013-12-22", "--out", str(out),
    )  # fmt: skip
    assert code == 0, errors
    report = json.loads(text)
    assert {"target", "rows", "champion", "served", "models", "naive"} <= report.keys()
    assert set(report["served"]) == SCORES
    assert {"lightgbm", "linear", "prophet", "similar_day", "ensemble"} <= report["models"].keys()
    for scores in report["models"].values():
        assert {*SCORES, "fit_s", "predict_s"} <= scores.keys()
    assert report["rows"] == 21 * 24
    assert report["served"]["mae"] < 0.7 * report["naive"]["mae"]
    assert report["naive"]["mae"] == report["naive"][report["naive"]["name"]]["mae"]

    made = pl.read_parquet(out)
    assert made.height == 21 * 24
    error = (made["value"] - made["truth"]).abs().mean()
    assert error == pytest.approx(report["served"]["mae"])
    inside = ((made["truth"] >= made["p10"]) & (made["truth"] <= made["p90"])).mean()
    assert inside == pytest.approx(report["served"]["coverage_80"])
    band = made.select(f"p{q}" for q in range(10, 100, 10)).to_numpy()
    assert (np.diff(band, axis=1) >= 0).all()
    assert (made["issued_at"].dt.hour() == 10).all()
    assert (made["time"] - made["issued_at"]).dt.total_hours().is_between(14, 37).all()


def test_prices_are_scored_at_the_levels_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "price.parquet"
    price_series(utc(2016, 1, 1), utc(2016, 5, 1)).with_columns(pl.col("value") * 1000).write_parquet(path)
    code, text, errors = run(
        "--data",
        str(path),
        "--target",
        "value",
        "--kind",
        "price",
        "--quantiles",
        "4",
        "--from",
        "2016-04-10",
        "--json",
    )
    assert code == 0, errors
    report = json.loads(text)
    assert report["quantiles"] == [0.2, 0.4, 0.6, 0.8]
    assert "lear" in report["models"]
    assert report["served"]["mae"] < report["naive"]["mae"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--data": "/no/such.csv"}, "data /no/such.csv: there is no such file"),
        ({"--target": "demnd"}, "target 'demnd' is not a column; the data has time, demand_mw, temperature_c"),
        ({"--weather": "wind"}, "weather 'wind' is not a column"),
        ({"--gate": "25:00"}, "gate '25:00' is not a time of day"),
        ({"--horizon": "soon"}, "duration 'soon'"),
        ({"--step": "7min"}, "granularity 7 min is not one of 5, 10, 15, 20, 30, 60 min"),
        ({"--time-zone": "Mars/Base"}, "time zone 'Mars/Base' is not an IANA name"),
        ({"--from": "2014-06-01"}, "lies outside the data"),
        ({"--from": "2013-09-03"}, "2 days of data before the test window, 28 needed to train"),
        ({"--latitude": "50"}, "latitude and longitude go together"),
        ({"--issue-col": "issued"}, "issue-col 'issued' is not a column"),
        ({"--horizon": "0h"}, "horizon 0 h is outside 1 to 168 h"),
        ({"--capacity": "-3"}, "capacity -3 is not a positive number"),
        ({"--capacity": "10"}, "capacity 10 is exceeded by 100% of the values"),
        ({"--capacity": "nan"}, "capacity nan is not a positive number"),
        ({"--country": "XX"}, "country 'XX' is not an ISO code"),
        ({"--weather": "demand_mw"}, "weather 'demand_mw' is the target"),
        ({"--from": "2013-12-01", "--to": "2013-11-01"}, "from 2013-12-01 is not before to 2013-11-01"),
        ({"--out": "/no/such/folder/out.csv"}, "there is no folder /no/such/folder"),
    ],
)
def test_bad_input_is_one_clear_line_and_code_2(demand: Path, change: dict[str, str], said: str) -> None:
    options = {"--data": str(demand), "--target": "demand_mw", "--kind": "load", "--weather": "temperature_c"} | change
    code, _, errors = run(*[part for pair in options.items() for part in pair])
    assert code == 2
    assert said in errors
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize("levels", ["0,0.5", "1.2", "many"])
def test_odd_quantiles_are_refused(demand: Path, levels: str) -> None:
    code, _, errors = run("--data", str(demand), "--target", "demand_mw", "--kind", "load", "--quantiles", levels)
    assert code == 2
    assert "--quantiles" in errors


def test_a_file_without_stamps_or_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    with pytest.raises(DataError, match="no time column; it has a, b"):
        read_table(path, None, "UTC")
    with pytest.raises(DataError, match="column 'b' holds no time stamps"):
        read_table(path, "b", "UTC")


@pytest.mark.parametrize(
    ("stamps", "first"),
    [
        (["2016-01-01 00:00", "2016-01-01 01:00"], utc(2016, 1, 1)),
        (["20160101 00:00", "20160101 01:00"], utc(2016, 1, 1)),
        (["2016010100", "2016010101"], utc(2016, 1, 1)),
        (["20160101 0:00", "20160101 1:00"], utc(2016, 1, 1)),
        (["2015-12-31 24:00", "2016-01-01 01:00"], utc(2016, 1, 1)),
        (["31.12.2015 23:00:00", "01.01.2016 00:00:00"], utc(2015, 12, 31, 23)),
        (["12/31/2015 11:00:00 PM", "01/01/2016 12:00:00 AM"], utc(2015, 12, 31, 23)),
        (["2016-01-01T00:00:00+01:00", "2016-01-01T01:00:00+01:00"], utc(2015, 12, 31, 23)),
    ],
)
def test_usual_forms_of_stamps_are_read(tmp_path: Path, stamps: list[str], first) -> None:
    path = tmp_path / "stamps.csv"
    path.write_text("timestamp,y\n" + "".join(f"{stamp},1\n" for stamp in stamps))
    frame = read_table(path, None, "UTC")
    assert frame["time"][0] == first
    assert infer_step(frame) == 60


def test_days_and_hours_in_two_columns_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "stamps.csv"
    path.write_text("Date,Hr_End,y\n01/12/2016,1,5\n01/12/2016,2,6\n01/12/2016,24,7\n02/12/2016,1,8\n13/12/2016,1,9\n")
    frame = read_table(path, None, "UTC")
    assert frame["time"].to_list() == [utc(2016, 12, d, h) for d, h in ((1, 0), (1, 1), (1, 23), (2, 0), (13, 0))]


def test_local_stamps_with_a_repeated_hour_are_read(tmp_path: Path) -> None:
    path = tmp_path / "stamps.csv"
    path.write_text("time,y\n2016-10-30 01:00,1\n2016-10-30 02:00,2\n2016-10-30 02:00,3\n2016-10-30 03:00,4\n")
    frame = read_table(path, None, "Europe/Berlin")
    assert frame["time"].null_count() == 0
    assert frame["time"][0] == utc(2016, 10, 29, 23)


def invented(days: int = 45) -> pl.DataFrame:
    """A load that follows the clock, the weekday and the temperature, with stamps without zone."""
    rng = np.random.default_rng(2)
    hour, day = np.arange(days * 24) % 24, np.arange(days * 24) // 24
    warmth = 12 + 6 * np.sin(hour / 24 * 2 * np.pi) + 0.1 * rng.normal(size=hour.size).cumsum()
    load = 100 + 30 * np.sin((hour - 8) / 24 * 2 * np.pi) - 15 * (day % 7 > 4) - 1.5 * warmth
    times = [datetime(2021, 9, 10) + timedelta(hours=k) for k in range(hour.size)]  # noqa: DTZ001 - as files have it
    return pl.DataFrame({"time": times, "y": load + rng.normal(0, 3, hour.size), "warmth": warmth})


def scored(frame: pl.DataFrame, path: Path, *options: str, kind: str = "load") -> dict:
    frame.write_parquet(path)
    code, text, errors = run("--data", str(path), "--target", "y", "--kind", kind, "--json", *options)
    assert code == 0, errors
    report = json.loads(text)
    assert report["served"]["mae"] <= report["naive"]["mae"] or any("no better" in note for note in report["notes"])
    return report


def test_a_dirty_file_of_a_prosumer_is_forecast_all_the_same_and_says_what_was_done(tmp_path: Path) -> None:
    clean = invented().with_columns(pl.col("y") - 95, empty=pl.lit(float("nan")))
    reference = scored(clean, tmp_path / "clean.parquet", "--weather", "warmth")
    row = pl.int_range(pl.len())
    dirty = clean.with_columns(
        pl.when(row.is_between(240, 287)).then(pl.col("y") * 1e4).otherwise(pl.col("y")).alias("y"),
        pl.col("time") + pl.duration(minutes=7, seconds=13),
    )
    dirty = pl.concat([dirty, dirty.sample(50, seed=1)]).sample(fraction=1.0, shuffle=True, seed=2)
    report = scored(dirty, tmp_path / "dirty.parquet", "--weather", "warmth,empty")
    said = "; ".join(report["notes"])
    assert "days are too large to be in the unit of the rest" in said
    assert "50 rows repeat a stamp" in said
    assert "weather 'empty' holds no values and is left out" in said
    assert report["served"]["mae"] == pytest.approx(reference["served"]["mae"], rel=0.25)


def test_a_constant_is_forecast_by_the_naive(tmp_path: Path) -> None:
    report = scored(invented().with_columns(y=pl.lit(5.0)), tmp_path / "flat.parquet")
    assert report["served"]["mae"] == pytest.approx(0.0, abs=1e-9)
    assert "the target is 5 throughout" in report["notes"]
    assert report["champion"].startswith("naive")


def test_weather_that_ends_and_negative_prices_do_not_stop_the_forecast(tmp_path: Path) -> None:
    row = pl.int_range(pl.len())
    late = invented().with_columns(
        pl.col("y") - 95, pl.when(row < 900).then(pl.col("warmth")).alias("warmth"), zone=pl.lit(1)
    )
    out = tmp_path / "out.csv"
    report = scored(late, tmp_path / "late.parquet", "--weather", "warmth", "--out", str(out), kind="price")
    assert any("no weather is known for" in note for note in report["notes"])
    made = pl.read_csv(out)
    assert made["value"].null_count() == 0
    assert (made["value"] < 0).any()


def test_texts_among_the_numbers_and_rows_without_time_are_said_and_a_month_is_enough(tmp_path: Path) -> None:
    row = pl.int_range(pl.len())
    odd = invented().head(31 * 24).with_columns(
        y=pl.when(row % 50 == 7).then(pl.lit("broken")).when(row % 50 == 9).then(pl.lit("n/a"))
        .otherwise(pl.col("y").cast(pl.String)),
        time=pl.when(row == 3).then(None).otherwise(pl.col("time")),
    )  # fmt: skip
    report = scored(odd, tmp_path / "odd.parquet")
    assert "15 values of target 'y' are no numbers, such as 'broken', and are left out" in report["notes"]
    assert "1 rows have no time stamp and are left out" in report["notes"]
    assert 48 < report["rows"] <= 72


def test_an_inverter_silent_at_night_and_gone_for_a_month_is_forecast(tmp_path: Path) -> None:
    hour, day = pl.col("time").dt.hour(), pl.int_range(pl.len()) // 24
    sun = (((hour.cast(pl.Float64) - 12) / 7 * np.pi / 2).cos() * 40).round(2)
    asleep, gone = ~hour.is_between(6, 18), day.is_between(40, 69)
    frame = invented(110).with_columns(y=pl.when(~asleep & ~gone).then(sun - pl.col("y") / 100))
    report = scored(frame, tmp_path / "inverter.parquet", kind="pv")
    assert report["models"]["similar_day"]["mae"] is not None
    assert report["served"]["mae"] < 0.5
    assert any("values are missing" in note for note in report["notes"])


def test_weather_without_an_issue_time_is_not_known_and_the_rest_is(tmp_path: Path) -> None:
    day = pl.int_range(pl.len()) // 24
    issued = pl.when(day % 7 != 0).then(pl.col("time").dt.truncate("1d") - pl.duration(hours=18))
    frame = invented().with_columns(issued=issued)
    report = scored(frame, tmp_path / "gaps.parquet", "--weather", "warmth", "--issue-col", "issued")
    # one day of seven
    assert any(note.startswith("no weather is known for 1") for note in report["notes"])
    late = invented().with_columns(issued=pl.col("time") + pl.duration(hours=3))
    report = scored(late, tmp_path / "late.parquet", "--weather", "warmth", "--issue-col", "issued")
    assert "no weather is known for 100% of the times that were forecast" in report["notes"]


def test_a_plant_above_its_rating_is_said_to_be(tmp_path: Path) -> None:
    report = scored(invented(), tmp_path / "above.parquet", "--capacity", "110")
    assert any("of the values exceed the capacity 110" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.head(72), "3 days of data, 29 needed: 28 to train, one to test"),
        (lambda frame: frame.with_columns(y=pl.lit(None, dtype=pl.Float64)), "target 'y' holds no numbers"),
        (lambda frame: frame.clear(), "target 'y' holds no numbers"),
        (
            lambda frame: pl.concat([frame.with_columns(zone=pl.lit(z)) for z in (1, 2)]),
            "data holds 2 series, told apart by 'zone' (1, 2); choose one, such as --where zone=1",
        ),
    ],
)
def test_what_cannot_be_forecast_is_one_clear_line(change, said: str, tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    change(invented()).write_parquet(path)
    code, _, errors = run("--data", str(path), "--target", "y", "--kind", "load")
    assert code == 2
    assert said in errors
    assert len(errors.strip().splitlines()) == 1
