"""The real service as a process: one browser cannot take over the session of another."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from dashboards.web import COOKIE
from flexergy_pipelines import access
from flexergy_pipelines.store import Store, TenantStore
from tests.dashboards.seeding import seed

PASSWORD = "a long enough passphrase"


@pytest.fixture
def address(store: Store, db: TenantStore, tmp_path: Path) -> Iterator[str]:
    """`flexergy dashboards` on the test's own database."""
    seed(db)
    access.create_user(db, "olga", PASSWORD, "operator")
    access.create_user(db, "victor", PASSWORD, "viewer")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = {**os.environ, "FLEXERGY_HOME": str(tmp_path), "FLEXERGY_DATABASE_URL": store.app_url}
    command = [sys.executable, "-m", "flexergy_pipelines.cli", "dashboards", "--port", str(port)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert any("URL:" in line for line in process.stdout), "the service ended before it was ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def token_of(address: str, name: str) -> str:
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        client.post("/login", data={"name": name, "password": PASSWORD})
        return client.cookies[COOKIE]


def stream(address: str, token: str, session: str | None = None) -> ClientConnection:
    """The WebSocket that a browser opens; with `session`, asking to go on with that Streamlit session."""
    protocols = [Subprotocol(word) for word in ("streamlit", "no-xsrf-token", *([session] if session else []))]
    headers = {"cookie": f"{COOKIE}={token}"}
    where = address.replace("http", "ws") + "/_stcore/stream"
    return connect(
        where, additional_headers=headers, subprotocols=protocols, proxy=None, max_size=None, open_timeout=60
    )


def run(browser: ClientConnection) -> tuple[str, str]:
    """Ask for a run of the page; gives the session's id and everything that was shown, as text."""
    request = BackMsg()
    request.rerun_script.SetInParent()
    browser.send(request.SerializeToString())
    session, shown = "", []
    while True:
        message = ForwardMsg()
        data = browser.recv(timeout=60)
        message.ParseFromString(data if isinstance(data, bytes) else data.encode())
        kind = message.WhichOneof("type")
        if kind == "new_session":
            session = message.new_session.initialize.session_id
        elif kind == "delta":
            shown.append(str(message.delta))
        elif kind == "script_finished":
            return session, "\n".join(shown)


def test_a_session_belongs_to_one_login_and_ends_with_it(address: str) -> None:
    olga, victor = token_of(address, "olga"), token_of(address, "victor")
    with stream(address, olga) as hers:
        session, shown = run(hers)
        assert session
        assert "Emergency stop" in shown
        with stream(address, victor, session) as his:
            other, seen = run(his)
            assert other != session
            assert "Emergency stop" not in seen
            assert "Viewer of demo" in seen
        still, _ = run(hers)
        assert still == session
    with stream(address, olga, session) as again:
        resumed, _ = run(again)
        assert resumed == session, "the same login may go on after a break of its connection"
    with pytest.raises(InvalidStatus), stream(address, "forged", session):
        pass

    with stream(address, olga) as window:
        _, shown = run(window)
        assert "Sample microgrid" in shown
        with httpx.Client(base_url=address, trust_env=False, timeout=60, cookies={COOKIE: olga}) as client:
            client.get("/logout")
        _, shown = run(window)
        assert "Your session has ended" in shown
        assert "Sample microgrid" not in shown
