"""The command lines about links, certificates and who may charge, as an installer types them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_loop.protocols.cli import app
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.grid.tls import server_context
from flexergy_pipelines.link_trace import listen, trace_files
from flexergy_pipelines.settings import load_settings
from flexergy_pipelines.store import Store, TenantStore
from flexergy_pipelines.store.charging_access import charge_point_keys, key_hash, list_id_tags
from flexergy_pipelines.store.link_statistics import LinkRow, write_link_statistics
from flexergy_pipelines.store.sites import save_site


@pytest.fixture
def home(store: Store, db: TenantStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store.app_url)
    save_site(db, sample_site("microgrid"))
    return tmp_path


@pytest.mark.requirement("asset.03.1")
def test_links_and_traces_are_shown(db: TenantStore, home: Path) -> None:
    run = CliRunner().invoke
    assert "no link was heard of" in run(app, ["links", "microgrid"]).output
    now = datetime.now(UTC) - timedelta(minutes=2)
    counts = (100, 25, 3, 2, 400_000, 600_000)
    write_link_statistics(
        db, "microgrid", [LinkRow("esc-1", now, False, *counts, 0.012, 0.4, "iec104", "LTE", "esc-1: no connection")]
    )
    (line,) = run(app, ["links", "microgrid"]).output.splitlines()
    said = " ".join(line.split())
    assert said.startswith("esc-1 DOWN iec104 over LTE: 100 requests, 75.0 % answered, 12 ms, 3 retries, 2 connects, ")
    assert said.endswith("1.00 MB; last error: esc-1: no connection")
    wanted, given = trace_files(load_settings(), "microgrid", "esc-1")

    def loop() -> None:
        """The control loop, which answers as soon as a trace is asked for."""
        pause = threading.Event()
        while not wanted.exists():
            pause.wait(0.01)
        given.write_text("10:00:00.000 -> unit 1 read input 0..11\n")

    loop_thread = threading.Thread(target=loop)
    loop_thread.start()
    traced = run(app, ["trace", "microgrid", "esc-1", "--seconds", "1"])
    loop_thread.join()
    assert traced.output == "10:00:00.000 -> unit 1 read input 0..11\n"
    assert not wanted.exists()


def test_listening_goes_on_when_old_frames_fall_out(home: Path) -> None:
    settings = load_settings()
    frames = [f"10:00:0{n}.000 -> unit 1 read input {n}" for n in range(9)]
    heard: list[str] = []
    windows = [frames[:3], frames[:3], frames[1:4], frames[3:6], frames[6:9], frames[6:9]]
    hearing = listen(settings, "microgrid", "esc-1", 60.0)
    assert next(hearing) == []
    wanted, given = trace_files(settings, "microgrid", "esc-1")
    assert wanted.exists()
    for window in windows:
        given.write_text("\n".join(window) + "\n")
        heard += next(hearing)
    hearing.close()
    assert heard == frames
    assert not wanted.exists()


def test_certificates_are_made_once_and_fit_each_other(home: Path) -> None:
    run, folder = CliRunner().invoke, home / "certificates"
    first = run(app, ["certificates", str(folder), "--name", "device", "--host", "10.0.0.9", "--host", "bess.local"])
    assert first.exit_code == 0
    assert "authority made" in first.output
    assert "authority made" not in run(app, ["certificates", str(folder), "--name", "manager"]).output
    assert {path.name for path in folder.iterdir()} == {
        "ca.pem", "ca.key", "device.pem", "device.key", "manager.pem", "manager.key",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.key"))
    assert server_context(TlsFiles(ca="ca.pem", certificate="device.pem", key="device.key"), folder, ask_client=True)


def test_tags_and_keys_are_given_and_taken(db: TenantStore, home: Path) -> None:
    run = CliRunner().invoke
    save_site(db, sample_site("microgrid"))
    assert run(app, ["id-tag", "abc", "--holder", "Bo", "--until", "2030-01-31"]).output == "ABC: may charge\n"
    (tag,) = list_id_tags(db)
    assert (tag.holder, tag.valid_until) == ("Bo", datetime(2030, 2, 1, tzinfo=UTC))
    assert run(app, ["id-tag", "abc", "--block"]).output == "ABC: blocked\n"
    assert run(app, ["id-tag", "abc", "--delete"]).output == "ABC: forgotten\n"
    assert run(app, ["id-tag", "abc", "--delete"]).exit_code == 2
    assert run(app, ["id-tag", "x" * 21]).exit_code == 2
    key = run(app, ["charger-key", "microgrid", "cp-01"]).output.strip()
    assert charge_point_keys(db, "microgrid") == {"cp-01": key_hash(key)}
    assert run(app, ["charger-key", "nowhere", "cp-01"]).exit_code == 2
    assert "no charge point cp-10, there are cp-01," in run(app, ["charger-key", "microgrid", "cp-10"]).output
    assert run(app, ["id-tag", "old", "--until", "2020-01-31"]).output == "OLD: has expired on 2020-01-31\n"
