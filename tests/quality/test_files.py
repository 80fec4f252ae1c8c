"""`flexergy clean` on files of every dialect: what is read, what is refused, and that rows and columns stay."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from flexergy_pipelines.quality import pieces
from flexergy_pipelines.quality.cli import app
from flexergy_pipelines.quality.files import read_table, to_numbers
from flexergy_pipelines.quality.stamps import parse_times

START = datetime(2024, 1, 8)  # noqa: DTZ001 - a local clock, as meters have it


def values(days: int = 40, per_day: int = 96) -> np.ndarray:
    i = np.arange(days * per_day)
    day = 1 - np.cos(2 * np.pi * (i % per_day) / per_day)
    return np.round(50 + 40 * day + np.random.default_rng(5).normal(0, 1, i.size), 3)


def stamps(count: int, minutes: int = 15) -> list[datetime]:
    return [START + timedelta(minutes=minutes * i) for i in range(count)]


def run(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def cleaned(path: Path, *options: str | Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    out = path.with_name("out.csv")
    code, output = run(path, "--out", out, "--json", *options)
    assert code == 0, output
    return pl.read_csv(out), json.loads(output)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def german(power: np.ndarray) -> str:
    rows = [
        f"{t:%d.%m.%Y %H:%M};{v:.3f}".replace(".", ",").replace(",", ".", 2)
        for t, v in zip(stamps(power.size), power, strict=True)
    ]
    return "Zeit;Leistung\n" + "\n".join(rows)


@pytest.mark.requirement("module.ami")
def test_rows_and_columns_stay_and_each_change_has_a_flag(tmp_path: Path) -> None:
    power = values()
    dirty = power.copy()
    dirty[1000] = 900.0
    dirty[2000:2020] = np.nan
    frame = pl.DataFrame({"time": stamps(power.size), "site": "north", "power": dirty}).fill_nan(None)
    frame.write_csv(tmp_path / "in.csv")
    out, report = cleaned(tmp_path / "in.csv", "--kind", "load")
    assert out.columns == ["time", "site", "power", "power_flag"]
    assert out.height == frame.height
    assert out["time"].to_list() == pl.read_csv(tmp_path / "in.csv")["time"].to_list()
    untouched = out["power_flag"].is_null()
    assert (out.filter(untouched)["power"] == frame.filter(untouched)["power"]).all()
    assert out["power_flag"][1000] == "spike"
    assert set(out["power_flag"][2000:2020]) == {"similar_day"}
    assert report["counts"] == {"similar_day": 20, "spike": 1}
    assert report["coverage"] == pytest.approx(1 - 21 / power.size, abs=1e-6)
    assert np.abs(out["power"].to_numpy() - power).max() < 6


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_decimal_commas_semicolons_encodings_and_a_preamble(tmp_path: Path, encoding: str) -> None:
    power = values()
    text = "Zähler;4711\nOrt;Köln\n\n" + german(power)
    out, report = cleaned(write(tmp_path / "in.csv", text, encoding))
    assert out.columns == ["Zeit", "Leistung", "Leistung_flag"]
    assert out["Leistung"].to_numpy() == pytest.approx(power, abs=1e-9)
    assert report["step_minutes"] == 15
    assert report["counts"] == {}


def test_a_file_without_header_gets_one(tmp_path: Path) -> None:
    power = values(8)
    rows = [f"{t.isoformat()},{v}" for t, v in zip(stamps(power.size), power, strict=True)]
    out, _ = cleaned(write(tmp_path / "in.csv", "\n".join(rows)))
    assert out.columns == ["time", "column_1", "column_1_flag"]
    assert out["column_1"].to_numpy() == pytest.approx(power)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(tmp_path: Path, separator: str) -> None:
    power = values(8)
    rows = [f"{t.isoformat()}{separator}{v}" for t, v in zip(stamps(power.size), power, strict=True)]
    out, _ = cleaned(write(tmp_path / "in.csv", f"time{separator}kw\r\n" + "\r\n".join(rows)))
    assert out["kw"].to_numpy() == pytest.approx(power)


def test_thousands_in_quotes() -> None:
    column = pl.Series("x", ["1,234.5", "12", " 7 ", "-0.5"])
    numbers = to_numbers(column, decimal_comma=False)
    assert numbers is not None
    assert numbers[0].to_list() == [1234.5, 12.0, 7.0, -0.5]
    numbers = to_numbers(pl.Series("x", ["1.234,5", "12", "7,25", "1e3"]), decimal_comma=True)
    assert numbers is not None
    assert numbers[0].to_list() == [1234.5, 12.0, 7.25, 1000.0]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2024-03-01T10:00:00Z", "2024-03-01T12:30:00+02:00"], ["2024-03-01T10:00:00", "2024-03-01T10:30:00"]),
        (["2024-03-01 10:00:00+0100", "2024-03-01T04:00:00-05:30"], ["2024-03-01T09:00:00", "2024-03-01T09:30:00"]),
        (["01.03.2024 10:00", "13.03.2024 10:15"], ["2024-03-01T10:00:00", "2024-03-13T10:15:00"]),
        (["3/13/2024 1:00 PM", "3/14/2024 12:00 AM"], ["2024-03-13T13:00:00", "2024-03-14T00:00:00"]),
        (["2024/03/01 23:45", "2024/03/01 24:00"], ["2024-03-01T23:45:00", "2024-03-02T00:00:00"]),
        (["2024-03-01", "2024-03-02"], ["2024-03-01T00:00:00", "2024-03-02T00:00:00"]),
        (["1709287200", "1709288100"], ["2024-03-01T10:00:00", "2024-03-01T10:15:00"]),
        (["1709287200000", "1709288100000"], ["2024-03-01T10:00:00", "2024-03-01T10:15:00"]),
        (["45352.5", "45352.75"], ["2024-03-01T12:00:00", "2024-03-01T18:00:00"]),
    ],
)
def test_times_are_read_as_they_are_written(texts: list[str], expected: list[str]) -> None:
    times, known, _ = parse_times(pl.Series("time", texts))
    assert known.all()
    found = [datetime.fromtimestamp(t / 1e6, UTC).replace(tzinfo=None).isoformat() for t in times.tolist()]
    assert found == expected


def test_the_month_is_told_by_what_runs_on() -> None:
    days = [f"{d:02d}/01/2024 00:00" for d in range(1, 11)]
    months = [f"01/{d:02d}/2024 00:00" for d in range(1, 11)]
    for texts in (days, months):
        times, _, _ = parse_times(pl.Series("time", texts))
        assert set(np.diff(times).tolist()) == {86_400_000_000}


def test_days_of_23_and_25_hours_of_a_local_clock_are_neither_gaps_nor_doubles(tmp_path: Path) -> None:
    utc = pl.datetime_range(datetime(2024, 3, 1), datetime(2024, 11, 20), "15m", eager=True).dt.replace_time_zone("UTC")  # noqa: DTZ001
    local = utc.dt.convert_time_zone("Europe/Berlin").dt.replace_time_zone(None)
    power = values(265)[: local.len()]
    frame = pl.DataFrame({"time": local.dt.strftime("%Y-%m-%d %H:%M"), "kw": power})
    frame.write_csv(tmp_path / "in.csv")
    _, report = cleaned(tmp_path / "in.csv")
    assert "duplicate_time" not in report["counts"]
    # Sorted files give the two passes of the hour side by side.
    frame.with_columns(pl.col("time")).sort("time", maintain_order=True).write_csv(tmp_path / "in.csv")
    _, report = cleaned(tmp_path / "in.csv")
    assert "duplicate_time" not in report["counts"]


def test_doubles_are_flagged_and_the_first_one_counts(tmp_path: Path) -> None:
    power = values()
    rows = [f"{t.isoformat()},{v}" for t, v in zip(stamps(power.size), power, strict=True)]
    rows.insert(501, rows[500].split(",")[0] + ",71.0")
    out, report = cleaned(write(tmp_path / "in.csv", "time,kw\n" + "\n".join(rows)))
    assert report["counts"] == {"duplicate_time": 1}
    assert out["kw"][501] == pytest.approx(power[500])
    assert out["kw"][500] == pytest.approx(power[500])


def test_rows_in_any_order_give_the_same(tmp_path: Path) -> None:
    power = values()
    power[1000] = 900
    frame = pl.DataFrame({"time": stamps(power.size), "kw": power})
    frame.write_csv(tmp_path / "in.csv")
    ordered, _ = cleaned(tmp_path / "in.csv")
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_csv(tmp_path / "in.csv")
    shuffled, _ = cleaned(tmp_path / "in.csv")
    assert shuffled.sort("time").equals(ordered)


def test_what_is_no_number_is_replaced_and_told(tmp_path: Path) -> None:
    power = [str(v) for v in values()]
    power[700], power[800], power[900], power[1000] = "true", "inf", "NaN", ""
    rows = [f"{t.isoformat()},{v}" for t, v in zip(stamps(len(power)), power, strict=True)]
    out, report = cleaned(write(tmp_path / "in.csv", "time,kw\n" + "\n".join(rows)))
    assert report["counts"] == {"not_a_number": 3, "interpolated": 1}
    assert out["kw"].is_finite().all()


def test_a_row_of_too_many_fields_is_not_believed_and_an_unnamed_column_is_left_out(tmp_path: Path) -> None:
    rows = [f"{t.isoformat()},north,{v}" for t, v in zip(stamps(960), values(10), strict=True)]
    plain, _ = cleaned(write(tmp_path / "in.csv", "time,site,kw\n" + "\n".join(rows)))
    rows[500] += ",7"
    out, report = cleaned(write(tmp_path / "in.csv", "time,site,kw\n" + "\n".join(rows)))
    assert out["site"].unique().to_list() == ["north"]
    assert out["kw_flag"][500] == "not_a_number"
    assert report["counts"] == {"not_a_number": 1}
    remarks, _ = cleaned(write(tmp_path / "in.csv", "time,site,kw\n" + "\n".join(f"{row},ok" for row in rows)))
    assert remarks["kw"].to_list()[:500] == plain["kw"].to_list()[:500]
    assert remarks["kw_flag"].drop_nulls().is_empty()


def test_stamps_that_cannot_be_are_left_alone(tmp_path: Path) -> None:
    power = values()
    texts = [t.isoformat() for t in stamps(power.size)]
    texts[100], texts[200], texts[300] = "1970-01-01T00:00:00", "2099-01-01T00:00:00", "soon"
    rows = [f"{t},{v}" for t, v in zip(texts, power, strict=True)]
    out, report = cleaned(write(tmp_path / "in.csv", "time,kw\n" + "\n".join(rows)))
    assert report["counts"] == {"bad_time": 3}
    assert out["kw"].to_numpy() == pytest.approx(power)


def test_a_sentinel_is_no_measurement(tmp_path: Path) -> None:
    power = values()
    power[[50, 60, 61]] = [-999, 999999, -9999]
    pl.DataFrame({"time": stamps(power.size), "kw": power}).write_csv(tmp_path / "in.csv")
    out, report = cleaned(tmp_path / "in.csv")
    assert report["counts"] == {"sentinel": 3}
    assert out["kw"].is_between(0, 200).all()


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    power = values()
    power[1000] = 900
    times = pl.Series(stamps(power.size)).dt.replace_time_zone("UTC")
    frame = pl.DataFrame({"time": times, "kw": power, "breaker": [1] * power.size, "note": ["x"] * power.size})
    frame.write_parquet(tmp_path / "in.parquet")
    code, output = run(tmp_path / "in.parquet", "--out", tmp_path / "out.parquet")
    assert code == 0, output
    out = pl.read_parquet(tmp_path / "out.parquet")
    assert out.columns == ["time", "kw", "breaker", "note", "kw_flag", "breaker_flag"]
    assert out.schema["time"] == frame.schema["time"]
    assert out.schema["breaker"] == frame.schema["breaker"]
    assert out["kw_flag"].drop_nulls().to_list() == ["spike"]


def test_a_series_helps_to_fill_another(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    weather = np.cumsum(random.normal(0, 1, 60 * 96))
    weather = 60 + 40 * np.sin(weather / 12)
    first, second = weather + random.normal(0, 0.3, weather.size), 2 * weather + random.normal(0, 0.3, weather.size)
    dirty = second.copy()
    dirty[3000:3040] = np.nan
    pl.DataFrame({"time": stamps(first.size), "wind_1": first, "wind_2": dirty}).fill_nan(None).write_csv(
        tmp_path / "in.csv"
    )
    out, report = cleaned(tmp_path / "in.csv", "--kind", "wind")
    assert report["channels"]["wind_2"]["counts"] == {"donor": 40}
    assert np.abs(out["wind_2"].to_numpy() - second)[3000:3040].mean() < 3


def test_the_most_observable_period_is_told(tmp_path: Path) -> None:
    power = values(60)
    power[: 20 * 96][np.random.default_rng(2).random(20 * 96) < 0.5] = np.nan
    pl.DataFrame({"time": stamps(power.size), "kw": power}).fill_nan(None).write_csv(tmp_path / "in.csv")
    _, report = cleaned(tmp_path / "in.csv")
    period = report["channels"]["kw"]["most_observable_period"]
    assert (period["first"], period["last"]) == ("2024-01-28", "2024-03-07")
    assert period["reason"].startswith("40 of 60 days, 100.0% of the values measured and untouched")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"time,kw\n", "has no rows below its header"),
        (b"just one line", "has no rows below its header"),
        (b"a,b\nx,1\ny,2\n", "first column a: holds no times (such as x)"),
        (b"time,name\n2024-01-01,x\n2024-01-02,y\n", "no column beside time holds numbers"),
        (b"time\n2024-01-01\n", "needed are a time and at least one series"),
        (b"time,kw,kw_flag\n2024-01-01,1,\n2024-01-02,2,\n", "column kw_flag is there already"),
        (b"\x00\x01\x02\x03\x00\x00" * 50 + b"\n\x00\n", "is neither CSV text nor Parquet"),
        (b"PAR1broken", "is no whole Parquet file"),
        (b"time,kw,kw\n2024-01-01,1,2\n2024-01-02,1,2\n", "column kw is there twice"),
        (b'time,kw\n2024-01-01,1\n2024-01-02,"2\n2024-01-03,3\n', "a quote is not closed, in '2024-01-02,\"2'"),
        (b'time,kw\n2024-01-01,"1\n2024-01-02,2\n2024-01-03,3"\n2024-01-04,3\n', "a quote is not closed, in "),
        (b"time,kw\n2024-01-01,1,5\n2024-01-02,2,5\n", "decimal commas and commas between fields cannot be told apart"),
        (gzip.compress(b"time,kw\n2024-01-01,1\n", mtime=0), "is neither CSV text nor Parquet"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    code, output = run(tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert code == 2
    assert message in output
    assert "Traceback" not in output
    assert len(output.strip().splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


def test_bad_options_are_refused(tmp_path: Path) -> None:
    power = values(8)
    path = tmp_path / "in.csv"
    pl.DataFrame({"time": stamps(power.size), "kw": power}).write_csv(path)
    for words, message in (
        ((path, "--out", path), "is the raw file itself"),
        ((path, "--out", tmp_path / "no" / "out.csv"), "cannot be written"),
        ((path, "--out", tmp_path / "o.csv", "--kind", "tidal"), "--kind tidal is unknown"),
        ((path, "--out", tmp_path / "o.csv", "--capacity", "-5"), "--capacity -5.0 is not allowed"),
        ((path, "--out", tmp_path / "o.csv", "--capacity", "nan"), "--capacity nan is not allowed"),
        ((tmp_path / "none.csv", "--out", tmp_path / "o.csv"), "cannot be read"),
        ((tmp_path, "--out", tmp_path / "o.csv"), "is a folder"),
    ):
        code, output = run(*words)
        assert code == 2
        assert message in output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv"]


def test_a_device_or_pipe_is_not_replaced_by_the_clean_file(tmp_path: Path) -> None:
    power = values(8)
    path, pipe = tmp_path / "in.csv", tmp_path / "pipe"
    pl.DataFrame({"time": stamps(power.size), "kw": power}).write_csv(path)
    os.mkfifo(pipe)
    code, output = run(path, "--out", pipe)
    assert code == 2
    assert "is no regular file" in output
    assert pipe.is_fifo()


def test_a_truncated_upload_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    power = values()
    rows = [f"{t.isoformat()},{v}" for t, v in zip(stamps(power.size), power, strict=True)]
    text = "time,kw\n" + "\n".join(rows)
    out, _ = cleaned(write(tmp_path / "in.csv", text[: len(text) // 2]))
    assert power.size // 2 - 2 <= out.height <= power.size // 2 + 2
    frame = read_table(tmp_path / "in.csv").frame
    assert frame.height == out.height


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_a_large_file_is_cleansed_in_pieces_like_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    power = values(days=200)
    power[[3000, 9000, 15000]] = 900.0
    power[5990:6020] = np.nan  # across the edge of two pieces
    power[12000:12040] *= 1000
    frame = pl.DataFrame({"time": stamps(power.size), "kw": power, "note": "ok"}).fill_nan(None)
    path = tmp_path / name
    (frame.write_csv if name == "in.csv" else frame.write_parquet)(path)
    code, output = run(path, "--out", tmp_path / "whole.parquet", "--json", "--kind", "load")
    assert code == 0, output
    whole = json.loads(output)
    for limit, value in (
        ("LARGE_BYTES", 0),
        ("PIECE_CHARACTERS", 200_000),
        ("LARGE_CELLS", 0),
        ("PIECE_CELLS", 18_000),
    ):
        monkeypatch.setattr(pieces, limit, value)
    monkeypatch.setattr(pieces, "CONTEXT_ROWS", 3000)
    code, output = run(path, "--out", tmp_path / "pieces.parquet", "--json", "--kind", "load")
    assert code == 0, output
    told = json.loads(output)
    assert told["counts"] == whole["counts"] == {"unit_slip": 40, "similar_day": 30, "spike": 3}
    assert told["rows"] == power.size
    assert told["coverage"] == pytest.approx(whole["coverage"], abs=1e-5)
    period = "most_observable_period"
    assert told["channels"]["kw"][period]["first"] == whole["channels"]["kw"][period]["first"]
    one, other = pl.read_parquet(tmp_path / "whole.parquet"), pl.read_parquet(tmp_path / "pieces.parquet")
    assert other.columns == ["time", "kw", "note", "kw_flag"]
    assert other["kw_flag"].equals(one["kw_flag"])
    untouched = other["kw_flag"].is_null()
    assert other.filter(untouched)["kw"].to_list() == frame.filter(untouched)["kw"].to_list()
    assert not list(tmp_path.glob(".*"))


def test_a_large_file_out_of_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    power = values(days=100)
    frame = pl.DataFrame({"time": stamps(power.size), "kw": power})
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_csv(tmp_path / "in.csv")
    monkeypatch.setattr(pieces, "LARGE_BYTES", 0)
    monkeypatch.setattr(pieces, "PIECE_CHARACTERS", 100_000)
    code, output = run(tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert code == 2
    assert "rows are not in order of time" in output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv"]
