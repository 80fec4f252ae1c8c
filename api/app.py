"""The FastAPI application."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from api import problems
from api.auth import LoginThrottle
from api.deadline import Deadline
from api.reference import reference_html
from api.routes import field, grid_orders, operation, planning, readings, session, sites

if TYPE_CHECKING:
    from flexergy_pipelines.store import Store

DESCRIPTION = """
Measurements, forecasts, plans, indicators and commands of your sites.

- **Log in** with `POST /login` and send the token as `Authorization: Bearer <token>`.
- **Times** are ISO 8601 with a UTC offset; answers are in UTC. A value stands for the interval that begins at its time.
- **Units** are in the names: power in kW, energy in kWh, money in EUR, prices in EUR/kWh; the state of charge is a
  fraction from 0 to 1.
- **Signs**: PV, wind, gensets, storage and the grid connection are positive when power flows into the site; loads and
  EV charging are positive when they consume.
- **Null** means not measured; it never means zero.
- **Errors** are `application/problem+json` and name the field, its value and what is allowed.
"""


def create_app(
    store: Store, *, tenant: str | None = None, deadline_s: float = 20.0, throttle: LoginThrottle | None = None
) -> FastAPI:
    """Make the application around a store.

    Parameters
    ----------
    store : Store
        Where everything is read from and written to.
    tenant : str, optional
        Subsystem whose services' ages `/health` tells.
    deadline_s : float
        A request without an answer after this time is answered with 503 [s].
    throttle : LoginThrottle, optional
        Limit of login attempts by address.
    """
    app = FastAPI(
        title="Flexergy API",
        version=version("flexergy"),
        description=DESCRIPTION,
        license_info={"name": "GPL-3.0-or-later"},
        docs_url=None,
        redoc_url=None,
    )
    app.state.store = store
    app.state.tenant = tenant
    app.state.throttle = throttle or LoginThrottle()
    problems.install(app)
    app.add_middleware(Deadline, limit_s=deadline_s)
    for module in (session, sites, readings, planning, operation, grid_orders, field):
        app.include_router(module.router)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(reference_html(app.openapi()))

    return app
