"""The simulator's HTTP side: weather and market services, the plant's state, and faults on demand."""

from __future__ import annotations

from datetime import timedelta

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from plant_simulator import market_api, weather_api
from plant_simulator.faults import FaultRequest
from plant_simulator.field import Field, UnknownTargetError, fault_row
from plant_simulator.http_faults import answer_with_faults

STALE_BY = timedelta(hours=36)
"""Age of the issue that a stale service keeps serving."""


def _refused(reason: str, status: int) -> Response:
    return JSONResponse({"error": True, "reason": reason}, status_code=status)


def _in_words(problem: ErrorDetails) -> str:
    """What is wrong with a request: field, value and what is allowed."""
    said = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return said if problem["type"] == "value_error" else f"body: {said}"
    value = problem["input"]
    shown = f"{value}: " if isinstance(value, str | int | float) else ""
    return f"{'.'.join(map(str, problem['loc']))}: {shown}{said}"


def build_app(field: Field) -> Starlette:
    """The HTTP application around a running field.

    Routes: `/v1/forecast` (Open-Meteo's format), `/market/day-ahead`, `/market/ancillary`, `/state`, `/faults` (GET
    lists, POST sets, DELETE clears all, those of a `target`, or one by number), `/faults/possible` and `/health`.
    """

    async def forecast(request: Request) -> Response:
        age = STALE_BY if field.faults.has("weather", "stale") else timedelta()
        try:
            answer = weather_api.forecast(request.query_params, field.places, field.clock.now(), age=age)
        except weather_api.BadQueryError as error:
            return _refused(str(error), 400)
        return await answer_with_faults(field.faults, "weather", answer)

    async def day_ahead(request: Request) -> Response:
        age = STALE_BY if field.faults.has("market", "stale") else timedelta()
        try:
            answer = market_api.day_ahead(request.query_params, field.places, field.clock.now() - age)
        except weather_api.BadQueryError as error:
            return _refused(str(error), 400)
        return await answer_with_faults(field.faults, "market", answer)

    async def ancillary(request: Request) -> Response:
        age = STALE_BY if field.faults.has("market", "stale") else timedelta()
        try:
            answer = market_api.ancillary(request.query_params, field.places, field.clock.now() - age)
        except weather_api.BadQueryError as error:
            return _refused(str(error), 400)
        return await answer_with_faults(field.faults, "market", answer)

    async def state(_: Request) -> Response:
        return JSONResponse(field.state())

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "sites": list(field.plants)})

    async def faults(request: Request) -> Response:
        if request.method == "DELETE":
            target = request.query_params.get("target")
            if target is not None and target not in field.possible_faults():
                return _refused(f"target '{target}' is not simulated", 422)
            return JSONResponse({"cleared": field.heal(target=target)})
        if request.method == "GET":
            return JSONResponse(field.fault_rows())
        try:
            fault = field.fail(FaultRequest.model_validate_json(await request.body()))
        except ValidationError as error:
            return _refused("; ".join(map(_in_words, error.errors())), 422)
        except UnknownTargetError as error:
            return _refused(str(error), 422)
        return JSONResponse(fault_row(fault, field.clock.monotonic()), status_code=201)

    async def possible(_: Request) -> Response:
        return JSONResponse(field.possible_faults())

    async def one_fault(request: Request) -> Response:
        number = request.path_params["fault_id"]
        cleared = field.heal(number)
        return JSONResponse({"cleared": cleared}) if cleared else _refused(f"no fault {number} is in force", 404)

    return Starlette(
        routes=[
            Route("/v1/forecast", forecast),
            Route("/market/day-ahead", day_ahead),
            Route("/market/ancillary", ancillary),
            Route("/state", state),
            Route("/health", health),
            Route("/faults", faults, methods=["GET", "POST", "DELETE"]),
            Route("/faults/possible", possible),
            Route("/faults/{fault_id:int}", one_fault, methods=["DELETE"]),
        ]
    )
