"""`flexergy db`, `site` and `export` as a person at a terminal meets them."""

from __future__ import annotations

import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from flexergy_pipelines.access import authenticate, list_users
from flexergy_pipelines.access.cli import app as user_app
from flexergy_pipelines.grid.samples import examples_dir, sample_site
from flexergy_pipelines.operation.grid_cli import app as grid_app
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import Store, TenantStore
from flexergy_pipelines.store.cli import app as db_app
from flexergy_pipelines.store.export_cli import app as export_app
from flexergy_pipelines.store.frequency_curves import read_frequency_curves
from flexergy_pipelines.store.readings import read_readings, write_readings
from flexergy_pipelines.store.site_cli import app as site_app
from flexergy_pipelines.store.sites import list_sites, load_site, save_site

MICROGRID = examples_dir() / "sites" / "microgrid.yaml"
PARK = examples_dir() / "sites" / "hybrid_park.yaml"
PV = ("pv-1", "active_power_kw")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, store_settings: Settings):
    """Run a command of an app in an installation whose database is the test's own."""
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store_settings.database_url or "")
    monkeypatch.delenv("FLEXERGY_TENANT", raising=False)
    return lambda app, *words, **more: CliRunner().invoke(app, [str(word) for word in words], **more)


@pytest.mark.requirement("infra.01.5")
def test_a_site_goes_in_and_comes_out_identically(run, db: TenantStore, tmp_path: Path) -> None:
    told = run(site_app, "import", MICROGRID, PARK)
    assert told.exit_code == 0, told.output
    assert told.output.splitlines() == ["microgrid: version 1, new", "hybrid-park: version 1, new"]
    copy = tmp_path / "copy.yaml"
    assert run(site_app, "export", "microgrid", "--out", copy).exit_code == 0
    assert run(site_app, "import", copy).output.strip() == "microgrid: version 1"
    assert load_site(db, "microgrid") == sample_site("microgrid")
    changed = copy.read_text().replace("soc_max: 0.95", "soc_max: 0.9")
    copy.write_text(changed)
    assert run(site_app, "import", copy).output.strip() == "microgrid: version 2"
    listed = run(site_app, "list").output
    assert "microgrid  version 2 since" in listed
    assert run(site_app, "export", "microgrid").output == changed


def test_a_site_that_cannot_be_written_whole_leaves_what_was_there(run, db: TenantStore, tmp_path: Path) -> None:
    save_site(db, sample_site("microgrid"))
    copy = tmp_path / "copy.yaml"
    copy.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # no file may grow larger, as on a full disk
    try:
        told = run(site_app, "export", "microgrid", "--out", copy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.exit_code == 1
    assert f"{copy}: cannot be written (File too large)" in told.output
    assert copy.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".copy")] == []


@pytest.mark.requirement("infra.01.5")
def test_history_is_read_with_the_configuration_that_held_then(db: TenantStore) -> None:
    site = sample_site("microgrid")
    save_site(db, site)
    between = datetime.now(UTC)
    narrow = site.model_copy(
        update={"grid_connection": site.grid_connection.model_copy(update={"import_limit_kw": 99.0})}
    )
    assert save_site(db, narrow, actor="ann") == 2
    assert save_site(db, narrow) == 2
    assert load_site(db, "microgrid").grid_connection.import_limit_kw == 99.0
    assert load_site(db, "microgrid", between) == site


def test_problems_of_all_files_are_told_a_line_each_and_nothing_is_imported(
    run, db: TenantStore, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        MICROGRID.read_text().replace("soc_min: 0.1", "soc_min: 0.99").replace("capacity_kwh: 500", "capacity_kwh: -5")
    )
    no_yaml = tmp_path / "no.yaml"
    no_yaml.write_text("[")
    told = run(site_app, "import", PARK, broken, no_yaml)
    assert told.exit_code == 2
    lines = told.stderr.splitlines()
    assert any("energy_capacity_kwh" in line and "-5" in line for line in lines), lines
    assert any(line.startswith("no.yaml") for line in lines)
    assert "Traceback" not in told.output
    assert list_sites(db) == []
    assert run(site_app, "validate", tmp_path / "nothing.yaml").exit_code == 2
    assert run(site_app, "import", PARK, PARK).exit_code == 2
    assert "hybrid-park: valid" in run(site_app, "validate", PARK).output
    assert run(site_app, "export", "nowhere").exit_code == 2


@pytest.mark.requirement("asset.04.5")
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_readings_of_a_period_are_exported_whole(run, db: TenantStore, tmp_path: Path, ending: str) -> None:
    site = sample_site("microgrid")
    save_site(db, site)
    start = datetime(2025, 12, 28, tzinfo=UTC)
    times = pl.datetime_range(start, start + timedelta(days=40), "1h", closed="left", eager=True, time_unit="us")
    rows = pl.DataFrame({"time": times}).with_columns(
        asset_id=pl.lit(PV[0]), quantity=pl.lit(PV[1]), value=pl.int_range(pl.len()).cast(pl.Float64) / 3
    )
    holes = rows.with_columns(pl.when(pl.int_range(pl.len()) % 7 > 0).then("value").alias("value"))
    write_readings(db, site.id, holes, "test")
    out = tmp_path / f"out{ending}"
    told = run(
        export_app,
        site.id,
        "--out",
        out,
        "--start",
        "2025-12-30",
        "--end",
        "2026-02-01T00:00+01:00",
        "--point",
        "/".join(PV),
    )
    assert told.exit_code == 0, told.output
    zone = site.zone
    wanted = read_readings(db, site.id, datetime(2025, 12, 30, tzinfo=zone), datetime(2026, 2, 1, tzinfo=zone), [PV])
    assert told.output.strip() == f"{out}: {wanted.height} rows"
    if ending == ".parquet":
        assert pl.read_parquet(out).equals(wanted)
    else:
        read = pl.read_csv(out).with_columns(
            pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_zone="UTC", time_unit="us"),
            pl.col("quality").cast(pl.Int16),
        )
        assert read.equals(wanted)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--start", "yesterday", "--end", "2026-01-01"], "time 'yesterday' is not ISO 8601"),
        (["--start", "2026-01-02", "--end", "2026-01-01"], "is after end"),
        (["--start", "2026-01-01", "--end", "2026-01-02", "--point", "pv-1"], "give ASSET/QUANTITY"),
        (["--start", "2026-01-01", "--end", "2026-01-02", "--point", "pv-1/colour"], "quantities of pv-1"),
    ],
)
def test_an_export_that_cannot_be_says_why_and_leaves_no_file(
    run, db: TenantStore, tmp_path: Path, words: list[str], complaint: str
) -> None:
    save_site(db, sample_site("microgrid"))
    told = run(export_app, "microgrid", "--out", tmp_path / "out.csv", *words)
    assert told.exit_code == 2
    assert complaint in told.stderr
    assert list(tmp_path.iterdir()) == []
    assert run(export_app, "microgrid", "--out", tmp_path / "out.xls", *words).exit_code == 2


def test_users_are_managed_and_passwords_told_once(run, store: Store, db: TenantStore) -> None:
    told = run(user_app, "add", "ann", "--role", "operator")
    assert told.exit_code == 0, told.output
    password = told.output.split()[-1]
    assert authenticate(store, "ann", password) is not None
    assert run(user_app, "add", "bob", "--role", "viewer", "--password-stdin", input="a long password\n").exit_code == 0
    assert authenticate(store, "bob", "a long password") is not None
    assert (
        run(user_app, "password", "bob", "--password-stdin", input="another password\n").output == "bob: password set\n"
    )
    assert authenticate(store, "bob", "another password") is not None
    assert run(user_app, "lock", "bob").output == "bob: locked\n"
    assert authenticate(store, "bob", "another password") is None
    assert run(user_app, "list").output.splitlines() == ["ann  operator", "bob  viewer, locked"]
    for words, complaint in (
        (["add", "ann"], "is taken"),
        (["add", "eve", "--role", "king"], "role 'king' is not one of"),
        (["add", "eve", "--valid-until", "2027-01-01"], "has no time zone"),
        (["lock", "eve"], "user 'eve' does not exist"),
    ):
        refused = run(user_app, *words)
        assert refused.exit_code == 2
        assert complaint in refused.stderr
    assert len(list_users(db)) == 2


def test_the_database_tells_its_state_and_url(run, store: Store) -> None:
    assert run(db_app, "migrate").output.startswith("schema ")
    assert run(db_app, "status").output.startswith("ok: PostgreSQL by FLEXERGY_DATABASE_URL, schema ")
    assert run(db_app, "url").output.strip() == store.app_url
    assert run(db_app, "url", "mlflow", "--driver", "psycopg2").output.strip() == store.url("mlflow")


def test_another_tenants_command_line_sees_none_of_it(run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(site_app, "import", MICROGRID)
    monkeypatch.setenv("FLEXERGY_TENANT", "other")
    assert run(site_app, "list").output == ""
    monkeypatch.setenv("FLEXERGY_TENANT", "nobody")
    assert run(site_app, "list").exit_code == 2


@pytest.mark.requirement("energy.11.1", "energy.11.2")
def test_the_grid_operators_orders_are_given_listed_and_withdrawn(run, db: TenantStore) -> None:
    save_site(db, sample_site("microgrid"))
    why = ("--reason", "congestion")
    assert run(grid_app, "limit", "microgrid", "pv-1", "--at-most", 60, *why).output == "order 1\n"
    ends = ("--until", "2099-01-01T00:00+01:00", "--ramp", 2, "--source", "TSO")
    assert run(grid_app, "setpoint", "microgrid", "pcc", *ends, *why, "--", -40).output == "order 2\n"
    listed = run(grid_app, "orders", "microgrid").output.splitlines()
    assert listed[0].startswith("1  pv-1: at most 60 kW, from ")
    assert listed[0].endswith(" until withdrawn  (grid operator: congestion)")
    assert listed[1].startswith("2  pcc: setpoint -40 kW by 2 kW/s, from ")
    assert listed[1].endswith(" until 2098-12-31 23:00:00 UTC  (TSO: congestion)")
    for number in (1, 2):
        assert run(grid_app, "withdraw", "microgrid", number).output == f"order {number} withdrawn\n"
    assert run(grid_app, "orders", "microgrid").output == "no orders\n"
    told = run(grid_app, "withdraw", "microgrid", 1)
    assert (told.exit_code, told.output) == (2, "order 1 of microgrid does not exist or is withdrawn already\n")
    told = run(grid_app, "setpoint", "microgrid", "ess-1", *ends, *why, 900)
    assert (told.exit_code, told.output) == (2, "order for ess-1: setpoint_kw 900.0 is outside -250 to 250 kW\n")
    assert run(grid_app, "curve", "microgrid", "ess-1", "49.8:50", "50:0", "50.2:-50").exit_code == 0
    now = datetime.now(UTC)
    (curve,) = read_frequency_curves(db, "microgrid", now, now + timedelta(seconds=1))
    assert curve.points == ((49.8, 50.0), (50.0, 0.0), (50.2, -50.0))
    for words, problem in (
        (("pv-1", "49.8:50", "50:0"), "pv-1: no storage system of microgrid; it has ess-1"),
        (("ess-1", "49.8", "50:0"), "point '49.8': give HZ:KW, such as 49.8:50"),
        (("ess-1", "49.8:0", "50:9"), "power rises from 0.0 to 9.0 kW between 49.8 and 50.0 Hz"),
    ):
        told = run(grid_app, "curve", "microgrid", *words)
        assert told.exit_code == 2
        assert problem in told.output
