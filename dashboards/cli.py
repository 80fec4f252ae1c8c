"""Serve the dashboards for operators in the browser."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)

SCRIPT = Path(__file__).with_name("app.py")


def streamlit_options(port: int, address: str) -> dict[str, object]:
    """Streamlit's options for this service: bound here, quiet, locked down, in our own look."""
    from dashboards.theme import STREAMLIT_THEME
    from dashboards.web import SESSION_HEADER

    return {
        "server.port": port,
        "server.address": address,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.trustedUserHeaders": json.dumps({SESSION_HEADER: "session"}),
        "server.maxUploadSize": 5,
        "server.disconnectedSessionTTL": 60,
        "server.showEmailPrompt": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        **STREAMLIT_THEME,
    }


def _refuse_taken_port(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            typer.echo(
                f"dashboards: cannot listen on {address}:{port}: {error.strerror}; choose another --port", err=True
            )
            raise typer.Exit(2) from None


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port to listen on.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
) -> None:
    """Serve the dashboards until interrupted."""
    from flexergy_pipelines.logs import configure_logging
    from flexergy_pipelines.settings import load_settings, publish_endpoints
    from flexergy_pipelines.store import open_store
    from flexergy_pipelines.store.errors import StoreError

    _refuse_taken_port(address, port)
    configure_logging("dashboards")
    settings = load_settings()
    try:
        store = open_store(settings)
    except StoreError as error:
        typer.echo(f"dashboards: {error}", err=True)
        raise typer.Exit(2) from None
    # The pages open the store anew inside Streamlit; they must find the server that was just started or attached.
    os.environ.setdefault("FLEXERGY_DATABASE_URL", store.app_url)

    # Two sessions that need these first, at the same time, would each see half of the other's import.
    import altair  # noqa: F401
    import pandas as pd  # noqa: F401
    import streamlit as st
    from starlette.middleware import Middleware

    from dashboards.authority import StoreAuthority
    from dashboards.data_docs import DataDocs
    from dashboards.web import LoginRoutes, SessionGate

    host = "127.0.0.1" if address in {"0.0.0.0", "::"} else address  # noqa: S104 - compared, not bound
    publish_endpoints(settings, {"dashboards": f"http://{host}:{port}"})
    authority = StoreAuthority(store)
    served = st.App(
        SCRIPT.resolve(),
        routes=[*LoginRoutes(authority).routes(), *DataDocs(store, settings.home / "data_docs").routes()],
        middleware=[Middleware(SessionGate, authority=authority)],
    )
    try:
        served.run(config=streamlit_options(port, address))
    finally:
        store.close()
