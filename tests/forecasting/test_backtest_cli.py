"""`flexergy backtest` as a user meets it."""

from __future__ import annotations

import json
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
        (["2016-01-01T00:00:00+01:00", "2016-01-01T01:00:00+01:00"], utc(2015, 12, 31, 23)),
    ],
)
def test_usual_forms_of_stamps_are_read(tmp_path: Path, stamps: list[str], first) -> None:
    path = tmp_path / "stamps.csv"
    path.write_text("timestamp,y\n" + "".join(f"{stamp},1\n" for stamp in stamps))
    frame = read_table(path, None, "UTC")
    assert frame["time"][0] == first
    assert infer_step(frame) == 60


def test_local_stamps_with_a_repeated_hour_are_read(tmp_path: Path) -> None:
    path = tmp_path / "stamps.csv"
    path.write_text("time,y\n2016-10-30 01:00,1\n2016-10-30 02:00,2\n2016-10-30 02:00,3\n2016-10-30 03:00,4\n")
    frame = read_table(path, None, "Europe/Berlin")
    assert frame["time"].null_count() == 0
    assert frame["time"][0] == utc(2016, 10, 29, 23)
