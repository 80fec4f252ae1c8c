"""The commands that serve the dashboards and the API, when they cannot."""

from __future__ import annotations

import socket

import pytest
from typer.testing import CliRunner

from api.cli import app as api_app
from dashboards.cli import app as dashboards_app
from dashboards.cli import streamlit_options

SERVICES = {"dashboards": dashboards_app, "api": api_app}


@pytest.mark.parametrize("service", SERVICES)
def test_a_taken_port_is_named_in_one_line(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(SERVICES[service], ["--port", str(port)])
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert line.startswith(f"{service}: cannot listen on 127.0.0.1:{port}")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_an_impossible_port_is_refused(service: str, port: str) -> None:
    assert CliRunner().invoke(SERVICES[service], ["--port", port]).exit_code == 2


def test_the_dashboards_are_served_locked_down() -> None:
    options = streamlit_options(8501, "127.0.0.1")
    assert options["server.enableXsrfProtection"] is True
    assert options["server.enableCORS"] is True
    assert options["client.showErrorDetails"] == "none"
    assert "x-flexergy-session" in str(options["server.trustedUserHeaders"])
