"""The embedded server: started from nothing, attached to by many, killed and recovered, and clear when it cannot be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psutil
import psycopg
import pytest

from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import (
    EmbeddedServer,
    StoreError,
    StoreUnavailableError,
    database_status,
    open_store,
    start_embedded,
)
from flexergy_pipelines.store.embedded import running_server
from flexergy_pipelines.store.readings import read_readings, write_readings
from tests.support.store import plain_site

POINT = ("pv-1", "active_power_kw")
T0 = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home whose name is longer than a socket path may be, with a blank and a quote in it."""
    root = Path(tempfile.mkdtemp(prefix="fxe-"))
    path = root / ("it's a long name " + "x" * 100)
    yield path
    server = running_server(settings_of(path))
    if server is not None:
        server.stop()
    shutil.rmtree(root, ignore_errors=True)


def settings_of(home: Path) -> Settings:
    return Settings(home=home, database_url=None, tenant="demo")


def reading(value: float) -> pl.DataFrame:
    return pl.DataFrame([{"asset_id": POINT[0], "quantity": POINT[1], "time": T0, "value": value, "quality": 0}])


def test_it_starts_from_nothing_and_children_use_it_by_url(home: Path) -> None:
    settings = settings_of(home)
    assert database_status(settings) == ("ok", "embedded, not yet created", "")
    assert not home.exists()
    server = start_embedded(settings)
    try:
        child = replace(settings, database_url=server.url())
        with open_store(child) as store:
            assert store.schema_version() is None
            assert database_status(child)[0] == "note"
            store.migrate()
            store.create_tenant("demo")
            assert database_status(child)[0] == "ok"
            for database in ("dagster", "mlflow"):
                with psycopg.connect(store.url(database).replace("+psycopg2", "")) as connection:
                    connection.execute("CREATE TABLE made_by_a_service (id int)")
                    connection.rollback()
        assert server.is_running()
    finally:
        server.stop()
    assert not server.is_running()
    assert not server.socket_dir.exists()
    assert database_status(settings) == ("ok", "embedded, not running", "")


def test_the_last_user_stops_it_and_a_command_beside_the_owner_does_not(home: Path) -> None:
    settings = settings_of(home)
    with open_store(settings) as first:
        with open_store(settings) as second:
            assert second.tenants()
        assert first.tenants()
        assert running_server(settings) is not None
    assert running_server(settings) is None
    owner = start_embedded(settings)
    code = "from flexergy_pipelines.store import open_store\nwith open_store() as s: print(s.tenants()[0].name)"
    environment = {**os.environ, "FLEXERGY_HOME": str(home)}
    environment.pop("FLEXERGY_DATABASE_URL", None)
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "demo"
    assert owner.is_running()
    owner.stop()


def kill_all(server: EmbeddedServer) -> None:
    postmaster = psutil.Process(server.pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=60)


@pytest.mark.parametrize("victims", ["postmaster", "all"])
def test_after_kill_9_what_was_committed_is_there(home: Path, victims: str) -> None:
    settings = settings_of(home)
    server = start_embedded(settings)
    store = open_store(replace(settings, database_url=server.url()))
    db = store.tenant("demo")
    value = 1.0 if victims == "all" else 2.0
    plain_site(db, "s1", [POINT])
    write_readings(db, "s1", reading(value), "test")
    if victims == "all":
        kill_all(server)
    else:
        os.kill(server.pid, signal.SIGKILL)
    again = start_embedded(settings)
    try:
        assert again.started_here
        assert again.pid != server.pid
        assert read_readings(db, "s1", T0, T0.replace(day=2))["value"].to_list() == [value]
    finally:
        store.close()
        server.release()
        again.stop()


def test_a_killed_writer_leaves_nothing_of_its_half_import(home: Path) -> None:
    settings = settings_of(home)
    server = start_embedded(settings)
    code = textwrap.dedent("""
        import os, signal, sys
        from datetime import UTC, datetime
        import polars as pl
        from flexergy_pipelines.store import open_store
        from flexergy_pipelines.store.readings import write_readings
        from tests.support.store import plain_site
        db = open_store().tenant("demo")
        with db.begin():
            plain_site(db, "half", [("a", "q")])
            rows = pl.DataFrame({"time": pl.datetime_range(datetime(2025, 1, 1, tzinfo=UTC),
                datetime(2025, 3, 1, tzinfo=UTC), "15m", eager=True)})
            rows = rows.with_columns(asset_id=pl.lit("a"), quantity=pl.lit("q"), value=pl.lit(1.0))
            write_readings(db, "half", rows, "test")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    environment = {**os.environ, "FLEXERGY_HOME": str(home), "FLEXERGY_DATABASE_URL": server.url()}
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    try:
        with open_store(replace(settings, database_url=server.url())) as store:
            db = store.tenant("demo")
            with db.begin() as connection:
                assert connection.exec_driver_sql("SELECT count(*) FROM sites WHERE site_id = 'half'").scalar_one() == 0
                assert (
                    connection.exec_driver_sql("SELECT count(*) FROM readings WHERE time < '2026-01-01'").scalar_one()
                    == 0
                )
    finally:
        server.stop()


@pytest.mark.parametrize("content", ["", "{pid}\n", "{pid}\n{data}\n1\n5432\n/tmp\n\n1 1\nready\n", "garbage"])
def test_a_stale_pid_file_of_a_number_that_another_process_has_now_is_no_obstacle(home: Path, content: str) -> None:
    settings = settings_of(home)
    stale = settings.postgres_dir / "postmaster.pid"
    assert not stale.exists()
    stale.write_text(content.format(pid=os.getpid(), data=settings.postgres_dir))
    with open_store(settings) as store:
        assert store.tenants()


def until_refused(settings: Settings) -> None:
    """The server takes a moment to notice its changed rules."""
    for _ in range(1000):
        open_store(settings).close()


def test_what_is_wrong_with_the_login_or_the_server_is_said(home: Path) -> None:
    settings = settings_of(home)
    server = start_embedded(settings)
    try:
        (server.data_dir / "pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        with psycopg.connect(server.url("postgres", user="postgres", driver=None), autocommit=True) as admin:
            admin.execute("SELECT pg_reload_conf()")
        url = server.url().replace("flexergy_app@", "flexergy_app:wrong@")
        wrong = replace(settings, database_url=url)
        with pytest.raises(StoreError, match="refused the user or password"):
            until_refused(wrong)
        with pytest.raises(StoreError, match="does not exist"):
            open_store(replace(settings, database_url=server.url("nothing", user="postgres")))
    finally:
        (server.data_dir / "pg_hba.conf").write_text("local all all trust\n")
        server.stop()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        open_store(replace(settings, database_url=server.url()))
    for text, complaint in (("mysql://x/y", "only postgresql"), ("no url", "is not a URL like")):
        with pytest.raises(StoreError, match=complaint):
            open_store(replace(settings, database_url=text))


@pytest.mark.parametrize(
    ("mount", "complaint"),
    [("size=8m", "no space left on the disk"), ("size=8m,ro", "set FLEXERGY_HOME to another folder")],
)
def test_a_full_disk_and_a_read_only_home_are_said(tmp_path: Path, mount: str, complaint: str) -> None:
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from flexergy_pipelines.settings import Settings
        from flexergy_pipelines.store import StoreError, start_embedded
        try:
            start_embedded(Settings(home=Path(sys.argv[1]) / "home", database_url=None, tenant="demo")).stop()
        except StoreError as error:
            print(error)
    """)
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" || exit 77; exec "$3" -c "$4" "$2"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", mount, str(tmp_path), sys.executable, code]
    if shutil.which("unshare") is None:
        pytest.skip("this system has no unshare")
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode in {1, 77} and not told.stdout:
        pytest.skip("mounting needs rights that this user does not have")
    assert complaint in told.stdout, told.stderr
    assert "Traceback" not in told.stderr
