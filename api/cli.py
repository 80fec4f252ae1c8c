"""Serve the REST API for other systems."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port to listen on.")] = 8600,
    address: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
) -> None:
    """Serve the API until interrupted; its description is at /docs."""
    import uvicorn

    from api.app import create_app
    from flexergy_pipelines.logs import configure_logging
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import open_store
    from flexergy_pipelines.store.errors import StoreError

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, port))
        except OSError as error:
            typer.echo(f"api: cannot listen on {address}:{port}: {error.strerror}; choose another --port", err=True)
            raise typer.Exit(2) from None
        configure_logging("api")
        try:
            settings = load_settings()
            store = open_store(settings)
        except StoreError as error:
            typer.echo(f"api: {error}", err=True)
            raise typer.Exit(2) from None
        try:
            config = uvicorn.Config(
                create_app(store, tenant=settings.tenant), log_config=None, access_log=False, server_header=False
            )
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            store.close()
