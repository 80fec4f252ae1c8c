"""The `flexergy simulate` process: starts, publishes, serves, makes way for others, stops cleanly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pymodbus.client import AsyncModbusTcpClient
from typer.testing import CliRunner

from flexergy_pipelines.grid.samples import examples_dir
from plant_simulator.cli import app

COMMAND = [sys.executable, "-c", "from flexergy_pipelines.cli.main import main; main()", "simulate"]


@contextmanager
def simulator(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A running simulator and the addresses it published."""
    env = os.environ | {"FLEXERGY_HOME": str(home)}
    process = subprocess.Popen(
        [*COMMAND, "--http-port", "0", *arguments], env=env, stderr=subprocess.PIPE, text=True, cwd=home
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "simulator ready" in line:
                break
        else:
            raise AssertionError(f"the simulator did not start: {''.join(lines)}")
        yield process, json.loads((home / "run" / "endpoints.json").read_text())
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def command(*words: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == exit_code, done.output
    return done.output


async def read_soc(address: str) -> int:
    host, port = address.split(":")
    client = AsyncModbusTcpClient(host, port=int(port), timeout=20, retries=0)
    assert await client.connect()
    reply = await client.read_input_registers(2, count=1, device_id=1)
    client.close()
    return reply.registers[0]


def test_it_starts_beside_whoever_has_its_port_serves_obeys_and_stops_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        held = taken.getsockname()[1]
        site_file = tmp_path / "site.yaml"
        text = (examples_dir() / "sites" / "microgrid.yaml").read_text()
        site_file.write_text(text.replace("port: 15021", f"port: {held}"))
        with simulator(tmp_path, str(site_file), "--soc", "microgrid/ess-1=0.31") as (process, addresses):
            assert addresses["microgrid/esc-1"] != f"127.0.0.1:{held}"
            assert asyncio.run(read_soc(addresses["microgrid/esc-1"])) == pytest.approx(3100, abs=5)
            assert httpx.get(f"{addresses['simulator']}/health").json()["sites"] == ["microgrid"]
            assert (tmp_path / "replay.json").exists()
            monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
            assert "microgrid/esc-1 frozen" in command("fault", "microgrid/esc-1", "frozen", "--for", "60")
            assert "microgrid/esc-1 frozen" in command("faults")
            assert "is not simulated" in command("fault", "microgrid/esc-7", "frozen", exit_code=2)
            assert command("heal") == "healed 1\n"
            assert command("faults") == "nothing fails\n"
            assert "no fault 99 is in force" in command("heal", "99", exit_code=2)
            assert "site moon is not simulated; known: microgrid" in command("targets", "moon", exit_code=2)
            dip = command("fault", "microgrid/pcc", "voltage", "--value", "-0.2", "--phase", "2")
            assert "microgrid/pcc voltage value -0.2 phase 2" in dip
            command("fault", "weather", "slow", "--delay", "0.5")
            assert "microgrid/ess-1: bms_trip bms_alarm hot_cells" in command("targets", "microgrid")
            assert command("heal", "weather") == "healed 1\n"
            assert "microgrid/pcc voltage" in command("faults")
            assert "target 'microgrid/moon' is not simulated" in command("heal", "microgrid/moon", exit_code=2)
            assert command("heal", "microgrid/pcc") == "healed 1\n"
            with simulator(tmp_path, "hybrid-park") as (other, _):
                assert "hybrid-park/pcc: " in command("targets")
                assert "microgrid/esc-1 frozen" in command("fault", "microgrid/esc-1", "frozen")
                assert "hybrid-park/pcc frequency" in command("fault", "hybrid-park/pcc", "frequency", "--value", "0.1")
                assert {"microgrid/esc-1", "hybrid-park/pcc"} <= set(command("faults").split())
                assert command("heal") == "healed 2\n"
                other.send_signal(signal.SIGTERM)
                assert other.wait(timeout=60) == 0
            assert command("faults") == "nothing fails\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            assert {"microgrid", "hybrid-park"} <= set(json.loads((tmp_path / "plants.json").read_text()))
            # Whoever gets the port next must not be sent faults that were meant for this one.
            assert "no simulator has published its address" in command("faults", exit_code=2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the sites to simulate, or --demo"),
        (["atlantis"], "no sample site atlantis"),
        (["microgrid", "--speed", "0"], "--speed 0 is outside"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["microgrid", "--soc", "1.2"], "--soc 1.2: must be a fraction 0..1"),
        (
            ["microgrid", "--soc", "microgrid/ess-7=0.4"],
            "no battery microgrid/ess-7 is simulated; known: microgrid/ess-1",
        ),
        (["microgrid", "--http-port", "0", "--host", "192.0.2.7"], "cannot listen on 192.0.2.7"),
        (["fault", "microgrid/pcc", "frequency", "--value", "nan"], "--value nan is not a finite number"),
        (["fault", "weather", "slow", "--for", "inf"], "--for inf is not a finite number"),
        (["fault", "weather", "stale", "--delay", "2"], "--delay is for slow, not for stale"),
        (["faults"], "no simulator has published its address here"),
    ],
)
def test_bad_arguments_are_one_clear_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert "Traceback" not in done.output
