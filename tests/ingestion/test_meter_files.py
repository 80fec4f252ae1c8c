"""The drop folder: what is good goes in, what is not lies in quarantine with row and reason."""

from __future__ import annotations

import errno
import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import StoreError, TenantStore, readings
from flexergy_pipelines.store.meter_files import list_meter_files
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.sites import save_site
from ingestion.meters import files
from ingestion.meters.checking import FileRefusedError
from ingestion.meters.files import FileReport, ingest_inbox, waiting_files
from ingestion.meters.formats import read_batches
from ingestion.meters.points import point_map

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEAD = "meter,quantity,time,value\n"


def drop(inbox: Path, text: str | bytes, name: str = "meters.csv", site: str = "microgrid") -> Path:
    folder = inbox / site if site else inbox
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def take(db: TenantStore, inbox: Path) -> list[FileReport]:
    return ingest_inbox(db, inbox, NOW, datetime.now(UTC).timestamp() + 60)


def stored(db: TenantStore) -> pl.DataFrame:
    return read_readings(db, "microgrid", NOW - timedelta(days=400), NOW + timedelta(days=1)).sort("time")


def checked(tmp_path: Path, text: str | bytes, site: str | None = "microgrid") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Accepted and rejected rows without a store."""
    path = drop(tmp_path, text)
    batches = list(read_batches(path, {"microgrid": point_map(sample_site("microgrid"))}, NOW, site))
    nothing = pl.DataFrame()
    if not batches:
        return nothing, nothing
    return pl.concat([b.accepted for b in batches]), pl.concat([b.rejected for b in batches])


def reasons(rejected: pl.DataFrame) -> dict[int, str]:
    return dict(rejected.select("row", "reason").iter_rows())


@pytest.mark.requirement("infra.02.1")
def test_a_file_becomes_readings_of_the_metered_asset(db: TenantStore, site: Site, tmp_path: Path) -> None:
    drop(
        tmp_path,
        HEAD + "pcc-meter,active_power_kw,2026-11-20T10:00:00Z,12.5\n"
        "pcc-meter,active_power_kw,2026-11-20T11:15:00+01:00,-3\n"
        "load-meter,active_power_kw,2026-11-20T10:00:00Z,\n",
    )
    [report] = take(db, tmp_path)
    assert (report.status, report.rows, report.rejected) == ("ingested", 3, 0)
    rows = stored(db)
    assert rows.filter(pl.col("asset_id") == "pcc")["value"].to_list() == [12.5, -3.0]
    empty = rows.filter(pl.col("asset_id") == "load-1").row(0, named=True)
    assert (empty["value"], empty["quality"]) == (None, 3)
    assert [f.status for f in list_meter_files(db)] == ["ingested"]
    assert (tmp_path / "done" / "meters.csv").exists()
    assert not (tmp_path / "quarantine").exists()


def test_bad_rows_lie_in_quarantine_with_row_and_reason_and_the_rest_is_taken(
    db: TenantStore, site: Site, tmp_path: Path
) -> None:
    drop(
        tmp_path,
        HEAD + "pcc,active_power_kw,2026-11-20T10:00:00Z,1\n"
        "pcc,active_power_kw,2026-11-20T10:15:00Z,NaN\n"
        "nobody,active_power_kw,2026-11-20T10:15:00Z,1\n"
        "pcc,active_power_kw,2026-11-20T10:30:00Z,2\n",
    )
    [report] = take(db, tmp_path)
    assert (report.status, report.rows, report.rejected) == ("partly", 2, 2)
    assert report.reason == "row 3: value 'NaN' is not a number"
    assert stored(db)["value"].to_list() == [1.0, 2.0]
    quarantine = pl.read_csv(tmp_path / "quarantine" / "meters.csv.rejected.csv")
    assert quarantine["row"].to_list() == [3, 4]
    assert quarantine["reason"][1] == "point 'nobody/active_power_kw' is unknown"
    assert quarantine["line"][0] == "pcc,active_power_kw,2026-11-20T10:15:00Z,NaN"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,true", "value 'true' is not a number"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,inf", "value 'inf' is not a number"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,1e999", "value '1e999' is not a number"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,1 000", "value '1 000' is not a number"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,900000", "value 900000.0 is outside -"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,1,2", "5 fields, the header has 4"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z", "3 fields, the header has 4"),
        ("pcc,active_power_kw,2026-11-20T12:06:00Z,1", "time is in the future"),
        ("pcc,active_power_kw,20/11/2026 10:00,1", "time '20/11/2026 10:00' is not ISO 8601"),
        ("pcc,active_power_kw,2026-02-30T10:00:00Z,1", "time does not exist"),
        ("pcc,active_power_kw,1969-12-31T10:00:00Z,1", "time is before 1970"),
        ("pcc,warp_power,2026-11-20T10:00:00Z,1", "point 'pcc/warp_power' is unknown"),
        ("ess-1,active_power_setpoint_kw,2026-11-20T10:00:00Z,1", "point 'ess-1/active_power_setpoint_kw' is unknown"),
        ("x" * 5000, "line is longer than 4000 characters"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,NaN", "value 'NaN' is not a number"),
        ("pcc,active_power_kw,2026-11-20T10:00:00Z,0x10", "value '0x10' is not a number"),
        ("pcc,active_power_kw,2026-11-20T10:00:00+99:00,1", "time does not exist"),
        ("pcc,active_power_kw,9999-12-31T23:59:59Z,1", "time is in the future"),
        ('pcc,active_power_kw,2026-11-20T10:00:00Z,"1', "a quote is not closed"),
        ('pcc,active_power_kw,"2026-11-20T10:00:00Z,1', "a quote is not closed"),
        ("pcc,active_power_kw,2026-11-20T09:00:00Z,2", "the file already holds a value of this point and time"),
    ],
)
def test_a_bad_row_says_what_is_wrong_with_it(tmp_path: Path, row: str, reason: str) -> None:
    good = "pcc,active_power_kw,2026-11-20T09:00:00Z,1"
    accepted, rejected = checked(tmp_path, HEAD + good + "\n" + row + "\n")
    assert accepted.height == 1
    assert reasons(rejected)[3].startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "the file is empty"),
        (b"%PDF-1.4", "this is no text file"),
        (b"PK\x03\x04rest", "the workbook cannot be read"),
        (b"<html></html>", "XML of <html> is unknown"),
        (b"<feed><entry>", "not well-formed XML"),
        (b"meter,quantity,time\n", "header lacks value"),
        (b"meter,quantity,time,value,colour\n", "header has unknown columns 'colour'"),
        (b"meter,quantity,time,value,time\n", "header names a column twice"),
        (b"meter,quantity,time,value\npcc,active_power_kw,2026-11-20T10:00Z,1 \xe9\n", "is not utf-8"),
        (HEAD.encode(), "no row could be taken; the file holds only a header"),
        (bytes(range(256)) * 20, "this is no text file"),
        (bytes(range(1, 256)) * 20, "is not utf-8"),
        (HEAD.encode("utf-16-le"), "this is no text file"),
        (HEAD.strip().encode() + b",c" * 10_000 + b"\n", "header names a column twice"),
        (f"{HEAD.strip()},{','.join(f'c{n}' for n in range(500))}\n".encode(), "'c4' and 495 more"),
        (b"\x1f\x8b", "the compressed file is broken or cut off"),
        (b"\x1f\x8bno such packing", "the compressed file is broken or cut off"),
        (gzip.compress(HEAD.encode(), mtime=0)[:-9], "the compressed file is broken or cut off"),
        (HEAD.encode() + b"nobody,x,2026-11-20T10:00Z,1\n", "no row could be taken; row 2: point 'nobody/x'"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(
    db: TenantStore, site: Site, tmp_path: Path, text: bytes, reason: str
) -> None:
    drop(tmp_path, text)
    [report] = take(db, tmp_path)
    assert report.status == "refused"
    assert reason in (report.reason or "")
    assert reason in (tmp_path / "quarantine" / "meters.csv.reason.txt").read_text()
    assert stored(db).is_empty()
    assert waiting_files(tmp_path, datetime.now(UTC).timestamp() + 60) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_line_ends_separators_and_decimal_commas(tmp_path: Path, encoding: str, ending: str) -> None:
    lines = ["Meter;Quantity;Timestamp;Value;Unit", '"pcc";"active_power_kw";"2026-11-20 10:00:00+01:00";"12,5";"kW"']
    text = ending.join([*lines, "pcc;active_power_kw;2026-11-20T10:15+0100;12500;W", ""])
    accepted, rejected = checked(tmp_path, text.encode(encoding))
    assert rejected.is_empty()
    assert accepted["value"].to_list() == [12.5, 12.5]
    assert accepted["time"][0] == datetime(2026, 11, 20, 9, tzinfo=UTC)


def test_a_unit_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    head = "meter,quantity,time,value,unit\n"
    accepted, rejected = checked(
        tmp_path, head + "pcc,active_power_kw,2026-11-20T10:00Z,1,kWh\nload-1,active_power_kw,2026-11-20T10:00Z,1,\n"
    )
    assert accepted.height == 1
    assert reasons(rejected)[2] == "unit 'kWh' does not fit, active_power_kw is in kW"


def test_a_row_cut_off_at_the_end_of_the_file_is_not_believed(tmp_path: Path) -> None:
    accepted, rejected = checked(
        tmp_path, HEAD + "pcc,active_power_kw,2026-11-20T10:00Z,1\npcc,active_power_kw,2026-11-20T10:15Z,12"
    )
    assert accepted.height == 1
    assert "may be cut off" in reasons(rejected)[3]


def test_local_times_on_the_day_with_25_hours(tmp_path: Path) -> None:
    walls = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    text = HEAD + "".join(f"pcc,active_power_kw,2026-10-25T{wall},{i}\n" for i, wall in enumerate(walls))
    accepted, rejected = checked(tmp_path, text)
    assert rejected.is_empty()
    assert [t.strftime("%H:%M") for t in accepted["time"]] == ["23:30", "00:00", "00:30", "01:00", "01:30", "02:00"]


def test_a_third_time_in_the_doubled_hour_and_the_hour_that_never_was(tmp_path: Path) -> None:
    text = HEAD + "pcc,active_power_kw,2026-10-25T02:00,1\n" * 3 + "pcc,active_power_kw,2026-03-29T02:30,1\n"
    accepted, rejected = checked(tmp_path, text)
    assert accepted.height == 2
    assert "already holds" in reasons(rejected)[4]
    assert "skipped in spring" in reasons(rejected)[5]


def test_times_with_and_without_offset_are_not_mixed(tmp_path: Path) -> None:
    text = HEAD + "pcc,active_power_kw,2026-11-20T10:00,1\npcc,active_power_kw,2026-11-20T10:00Z,1\n"
    accepted, rejected = checked(tmp_path, text)
    assert accepted.height == 1
    assert "has no offset" in reasons(rejected)[2]


def test_bytes_that_no_database_holds_stop_neither_their_file_nor_the_next(
    db: TenantStore, site: Site, tmp_path: Path
) -> None:
    rows = "".join(f"pcc,active_power_kw,2026-11-19T{hour:02}:00:00Z,5\n" for hour in range(9))
    drop(tmp_path, HEAD.encode() + b"pcc,active_power_kw,2026-11-19T10:00:00Z,1\x001\n" + rows.encode(), "a.csv")
    drop(tmp_path, HEAD + rows.replace(",5", ",6"), os.fsdecode(b"K\xfcche.csv"))
    reports = {report.name: (report.status, report.rows, report.rejected) for report in take(db, tmp_path)}
    assert reports == {"a.csv": ("partly", 9, 1), os.fsdecode(b"K\xfcche.csv"): ("ingested", 9, 0)}
    kept = {row.name: row.reason for row in list_meter_files(db, "microgrid")}
    assert kept == {"a.csv": r"row 2: value '1\x001' is not a number", r"K\udcfcche.csv": None}


def test_the_same_content_is_taken_once_whatever_its_name(db: TenantStore, site: Site, tmp_path: Path) -> None:
    text = HEAD + "pcc,active_power_kw,2026-11-20T10:00Z,1\n"
    drop(tmp_path, text)
    take(db, tmp_path)
    drop(tmp_path, text, "again.csv")
    [report] = take(db, tmp_path)
    assert report.status == "repeated"
    assert stored(db).height == 1
    assert len(list_meter_files(db)) == 1


@pytest.mark.parametrize("good", ["", "pcc,active_power_kw,2026-11-01T10:00Z,1\n"])
def test_a_refused_file_is_taken_once_its_cause_is_gone(db: TenantStore, site: Site, tmp_path: Path, good: str) -> None:
    text = HEAD + good + "pcc,active_power_kw,2026-11-20T10:00Z,1\n"
    drop(tmp_path, text)
    early = ingest_inbox(db, tmp_path, NOW - timedelta(days=9), datetime.now(UTC).timestamp() + 60)
    assert [(r.status, r.rejected) for r in early] == [("partly", 1) if good else ("refused", 0)]
    drop(tmp_path, text, "again.csv")
    assert [r.status for r in take(db, tmp_path)] == ["ingested"]
    assert stored(db).height == text.count("pcc")
    assert [row.status for row in list_meter_files(db)] == ["ingested"]


def test_a_site_is_found_by_folder_or_column(db: TenantStore, site: Site, tmp_path: Path) -> None:
    save_site(db, sample_site("hybrid-park"))
    head = "site,meter,quantity,time,value\n"
    row = "pcc,active_power_kw,2026-11-20T10:00Z,1\n"
    drop(tmp_path, head + f"microgrid,{row}hybrid-park,{row},{row}atlantis,{row}", "all.csv", site="")
    drop(tmp_path, HEAD + row, "some.csv", site="atlantis")
    reports = {report.name: report for report in take(db, tmp_path)}
    assert (reports["all.csv"].rows, reports["all.csv"].rejected) == (2, 2)
    assert set(reports["all.csv"].days) == {"microgrid", "hybrid-park"}
    assert reports["some.csv"].reason == "folder 'atlantis' is no site; known: hybrid-park, microgrid"


def test_a_file_still_being_written_is_left_alone(tmp_path: Path) -> None:
    path = drop(tmp_path, HEAD)
    drop(tmp_path, HEAD, "meters.csv.part")
    written = path.stat().st_mtime
    assert waiting_files(tmp_path, written + 1.0) == []
    assert waiting_files(tmp_path, written + 3.0) == [path]


@settings(max_examples=30, deadline=None)
@given(body=st.binary(max_size=300))
def test_whatever_bytes_come_the_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        accepted, rejected = checked(folder, HEAD.encode() + body)
    except FileRefusedError:
        return
    assert accepted.height + rejected.height <= body.count(b"\n") + body.count(b"\r") + 1


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(-100, 100, allow_nan=False), min_size=1, max_size=40), data=st.data())
def test_rows_in_any_order_give_the_same_readings(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], data: st.DataObject
) -> None:
    rows = [
        f"pcc,active_power_kw,{NOW - timedelta(minutes=15 * (i + 1)):%Y-%m-%dT%H:%M:%SZ},{value!r}"
        for i, value in enumerate(values)
    ]
    shuffled = data.draw(st.permutations(rows))
    first, _ = checked(tmp_path_factory.mktemp("a"), HEAD + "\n".join(rows) + "\n")
    second, _ = checked(tmp_path_factory.mktemp("b"), HEAD + "\n".join(shuffled) + "\n")
    assert first.sort("time").equals(second.sort("time"))
    assert first.sort("time", descending=True)["value"].to_list() == values


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in pieces of ten rows, as large ones are in pieces of a quarter of a million."""
    monkeypatch.setattr("ingestion.meters.csv_file.CHUNK_ROWS", 10)


def hours(count: int, meter: str = "pcc-meter", value: float = 1.0) -> str:
    first = NOW - timedelta(hours=count)
    rows = [f"{meter},active_power_kw,{first + timedelta(hours=n):%Y-%m-%dT%H:%M:%SZ},{value}\n" for n in range(count)]
    return "".join(rows)


def test_repeats_are_found_across_pieces_and_each_row_keeps_its_number(
    db: TenantStore, site: Site, tmp_path: Path, small_pieces: None
) -> None:
    drop(tmp_path, HEAD + hours(25) + hours(25, "load-meter", 2.0) + hours(1, value=9.0) + "x,y\n" + hours(1, "ess-1"))
    [report] = take(db, tmp_path)
    assert (report.status, report.rows, report.rejected) == ("partly", 51, 2)
    rejected = pl.read_csv(tmp_path / "quarantine" / "meters.csv.rejected.csv")
    assert reasons(rejected) == {
        52: "the file already holds a value of this point and time",
        53: "2 fields, the header has 4",
    }
    assert stored(db).filter(pl.col("asset_id") == "pcc")["value"].unique().to_list() == [1.0]


@pytest.mark.parametrize("ending", ["\xff\xfe", "late"], ids=["encoding", "cut"])
def test_a_file_that_turns_bad_further_down_leaves_nothing_half_written(
    db: TenantStore, site: Site, tmp_path: Path, small_pieces: None, ending: str
) -> None:
    text = (HEAD + hours(40)).encode()
    body = text + ending.encode("latin-1") if ending != "late" else gzip.compress(text)[:-30]
    drop(tmp_path, body, "meters.csv" if ending != "late" else "meters.csv.gz")
    [report] = take(db, tmp_path)
    assert report.status == "refused"
    assert "UTF-8" in str(report.reason) or "cut off" in str(report.reason)
    assert stored(db).is_empty()
    assert not list((tmp_path / ".work").iterdir())


def test_a_compressed_file_is_unpacked_while_it_is_read(db: TenantStore, site: Site, tmp_path: Path) -> None:
    drop(tmp_path, gzip.compress((HEAD + hours(40)).encode()), "meters.csv.gz")
    [report] = take(db, tmp_path)
    assert (report.status, report.rows) == ("ingested", 40)


def test_a_full_disk_leaves_the_file_for_later_and_takes_the_next_one(
    db: TenantStore, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drop(tmp_path, HEAD + hours(20), "a.csv")
    drop(tmp_path, HEAD + hours(20, "load-meter"), "b.csv")
    write, full = pl.DataFrame.write_parquet, [True]

    def no_room(frame: pl.DataFrame, file: Path) -> None:
        if full:
            full.clear()
            raise OSError(errno.ENOSPC, "No space left on device")
        write(frame, file)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", no_room)
    found = {report.name: report for report in take(db, tmp_path)}
    assert (found["a.csv"].status, found["b.csv"].status) == ("deferred", "ingested")
    assert found["a.csv"].reason == "left for the next pass: [Errno 28] No space left on device"
    assert first.exists()
    assert stored(db)["asset_id"].unique().to_list() == ["load-1"]
    [again] = take(db, tmp_path)
    assert (again.status, again.rows) == ("ingested", 20)


def test_a_file_that_somebody_has_open_for_writing_is_left_alone(tmp_path: Path) -> None:
    path = drop(tmp_path, HEAD + hours(3))
    later = datetime.now(UTC).timestamp() + 3600
    with path.open("a") as upload:
        upload.write("")
        assert waiting_files(tmp_path, later) == []
    assert waiting_files(tmp_path, later) == [path]


def test_a_file_that_grows_while_it_is_read_is_taken_whole_by_the_next_pass(
    db: TenantStore, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(tmp_path, HEAD + hours(20))
    real = files.read_batches

    def grows(*words: Any) -> Any:
        with path.open("a") as upload:
            upload.write(hours(20, "load-meter"))
        return real(*words)

    monkeypatch.setattr(files, "read_batches", grows)
    [report] = take(db, tmp_path)
    assert report.status == "deferred"
    monkeypatch.setattr(files, "read_batches", real)
    [report] = take(db, tmp_path)
    assert (report.status, report.rows) == ("ingested", 40)
    assert stored(db).height == 40


def test_a_database_that_fails_half_way_leaves_the_file_and_the_next_pass_completes_it(
    db: TenantStore, site: Site, tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(tmp_path, HEAD + hours(35))
    real, calls = readings.write_readings, [0]

    def full(*words: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise StoreError("the database's disk is full; free some space (nothing of this was written)")
        return real(*words, **options)

    monkeypatch.setattr(readings, "write_readings", full)
    with pytest.raises(StoreError, match="disk is full"):
        take(db, tmp_path)
    assert path.exists()
    assert not (tmp_path / "done").exists()
    [report] = take(db, tmp_path)
    assert (report.status, report.rows, stored(db).height) == ("ingested", 35, 35)
