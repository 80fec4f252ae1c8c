"""Environments of peers: made from pinned files, re-made when a file changes, and clear when a package can't be had."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.peers import PINS, PeersError, environment


def _wheel(folder: Path, version: str) -> str:
    """A package of one module that says its version; returns its line for a file of pins."""
    name = f"peerling-{version}"
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("peerling.py", f"version = {version!r}\n")
        wheel.writestr(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: peerling\nVersion: {version}\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return f"peerling @ {path.as_uri()} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _version(python: Path) -> str:
    said = subprocess.run(
        [python, "-c", "import peerling; print(peerling.version)"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def test_an_environment_is_made_once_and_again_when_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "some.txt").write_text(_wheel(tmp_path, "1.0"))
    python = environment("some", root=tmp_path, pins=pins)
    assert _version(python) == "1.0"
    mark = python.parent.parent / "kept"
    mark.touch()
    assert environment("some", root=tmp_path, pins=pins) == python
    assert mark.exists(), "an unchanged environment is made anew"
    (pins / "some.txt").write_text(_wheel(tmp_path, "2.0"))
    assert _version(environment("some", root=tmp_path, pins=pins)) == "2.0"
    assert not mark.exists()


def test_without_network_the_reason_is_said_and_nothing_half_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    (tmp_path / "far.txt").write_text("emhass==0.18.7 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(PeersError, match=r"peers 'far' could not be installed.*emhass"):
        environment("far", root=tmp_path, pins=tmp_path)
    assert not (tmp_path / ".peers" / "far").exists()
    with pytest.raises(PeersError, match="no peers 'near'; known: far"):
        environment("near", root=tmp_path, pins=tmp_path)


@pytest.mark.parametrize("pins", sorted(PINS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_package_is_pinned_by_hash_and_names_no_index(pins: Path) -> None:
    text = pins.read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert lines
    assert "index-url" not in text
    assert "://" not in text
    for line in lines:
        assert "==" in line
        assert line.endswith("\\"), f"{line} has no hash"
