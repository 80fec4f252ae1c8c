"""The data docs of the user's own tenant: static pages of the nightly validation, behind the same login."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dashboards.web import token_of
from flexergy_pipelines import access

if TYPE_CHECKING:
    from starlette.requests import Request

    from flexergy_pipelines.store import Store

PATH = "/data-docs"
NONE_YET = (
    "There are no data docs yet: they are written by the nightly validation, or at once by Dagster's job validation."
)


class DataDocs:
    """Serves ``<home>/data_docs/<tenant>`` to users of that tenant.

    Parameters
    ----------
    store : Store
        Tells whose session a request belongs to.
    folder : Path
        ``<home>/data_docs``.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def routes(self) -> list[Route]:
        """What `st.App` mounts; the session gate stands before it."""
        return [
            Route(PATH, self.index, methods=["GET"]),
            Route(PATH + "/{name:path}", self.page, methods=["GET"]),
        ]

    async def index(self, _request: Request) -> Response:
        """Pages refer to each other by relative links, so the list needs its own name."""
        return RedirectResponse(f"{PATH}/index.html", status_code=303)

    async def page(self, request: Request) -> Response:
        """One page of the user's tenant; nothing outside its folder."""
        token = token_of(request.scope["headers"]) or ""
        user = await to_thread.run_sync(access.resolve_session, self._store, token)
        if user is None:
            return PlainTextResponse("log in first", status_code=401)
        own = (self._folder / user.tenant).resolve()
        wanted = (own / request.path_params["name"]).resolve()
        if not wanted.is_relative_to(own) or wanted.suffix != ".html" or not wanted.is_file():
            return PlainTextResponse(NONE_YET if not own.is_dir() else "no such page", status_code=404)
        return FileResponse(wanted, media_type="text/html", headers={"cache-control": "no-store"})
