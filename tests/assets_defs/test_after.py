"""A process that starts after another."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from assets_defs.after import wait_for


def test_the_program_starts_when_the_socket_answers() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = str(Path(folder) / "code.sock")
        program = [sys.executable, "-m", "assets_defs.after", path, sys.executable, "-c", "print('started')"]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            server.bind(path)
            server.listen()
            output, _ = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "started\n")


def test_patience_ends(tmp_path: Path) -> None:
    assert not wait_for(str(tmp_path / "nobody.sock"), patience_s=0.05, pause_s=0.01)
