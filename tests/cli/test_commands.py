"""The command line as a stranger meets it: help, unknown words, a busy or unusable home, the doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flexergy_pipelines.cli import doctor
from flexergy_pipelines.cli.home_lock import acquire
from flexergy_pipelines.settings import Settings


def flexergy(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flexergy_pipelines.cli", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_lists_every_command_with_a_line() -> None:
    answer = flexergy("--help")
    assert answer.returncode == 0
    rows = [line.split(maxsplit=1) for line in answer.stdout.splitlines() if line.startswith("  ")]
    assert {"up", "doctor", "site", "control", "simulate", "pipeline", "api", "dashboards"} <= {row[0] for row in rows}
    assert [row[0] for row in rows if len(row) < 2] == []


def test_an_unknown_command_is_refused_with_the_known_ones() -> None:
    answer = flexergy("fly")
    assert answer.returncode == 2
    assert "no command 'fly'; known:" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_second_start_on_the_same_home_says_who_runs(tmp_path: Path) -> None:
    held = acquire(tmp_path / "run")
    answer = flexergy("up", FLEXERGY_HOME=str(tmp_path))
    held.release()
    assert answer.returncode == 1
    assert f"already runs on {tmp_path} (pid {os.getpid()} since" in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr


def test_a_home_that_cannot_be_written_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    answer = flexergy("up", FLEXERGY_HOME=str(tmp_path / "file" / "home"))
    assert answer.returncode == 1
    said = " ".join(answer.stderr.split())
    assert "cannot write to" in said
    assert "set FLEXERGY_HOME to another folder" in said
    assert "Traceback" not in said


def test_the_doctor_finds_a_sound_installation_sound(tmp_path: Path) -> None:
    answer = flexergy("doctor", "--json", FLEXERGY_HOME=str(tmp_path))
    findings = {row["check"]: row for row in json.loads(answer.stdout)}
    assert {"Python", "packages", "home", "disk", "ports", "loopback", "clock", "database"} == set(findings)
    assert [row for row in findings.values() if row["state"] == "bad"] == []
    assert answer.returncode == 0


@pytest.mark.parametrize(
    ("check", "advice"),
    [("home", "make it writable"), ("disk", "free")],
)
def test_the_doctor_says_what_to_do(check: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(doctor, "NEEDED_DISK_GB", 1e9)
    findings = {row.check: row for row in doctor.examine(Settings(tmp_path / "file" / "x", None, "demo"))}
    assert findings[check].state == "bad"
    assert advice in findings[check].advice


def test_the_doctor_names_an_unreachable_database(tmp_path: Path) -> None:
    answer = flexergy(
        "doctor", FLEXERGY_HOME=str(tmp_path), FLEXERGY_DATABASE_URL="postgresql+psycopg://nobody@127.0.0.1:9/flexergy"
    )
    assert answer.returncode == 1
    assert "BAD   database" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr


def test_an_unforeseen_error_is_one_line_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.metadata import EntryPoint

    from flexergy_pipelines.cli import main as command

    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["flexergy", "broken"])
    broken = EntryPoint("broken", "tests.cli.test_commands:broken_app", command.GROUP)
    monkeypatch.setattr(command, "_subcommands", lambda: {"broken": broken})
    with pytest.raises(SystemExit, match="1"):
        command.main()
    said = capsys.readouterr().err
    assert "flexergy broken: ZeroDivisionError: division by zero" in said
    assert "Traceback" not in said
    assert "ZeroDivisionError" in (tmp_path / "logs" / "crash.log").read_text()


def broken_app(**_: object) -> float:
    return 1 / 0


def test_a_nearly_full_disk_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flexergy_pipelines.cli import up

    monkeypatch.setattr(up, "NEEDED_DISK_BYTES", 10**18)
    with pytest.raises(up.CannotStartError, match=r"only \d+ MB free on .*; at least 1000000000000 MB are needed"):
        up.check_home(Settings(tmp_path / "home", None, "demo"))
