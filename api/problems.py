"""Errors as ``application/problem+json`` (RFC 9457) that name the field, its value and what is allowed."""

from __future__ import annotations

import math
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError, StoreError, StoreUnavailableError

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "Not logged in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    422: "Invalid input",
    429: "Too many attempts",
    500: "Internal error",
    503: "Temporarily unavailable",
}

_log = get_logger(__name__)


class ProblemError(Exception):
    """A request that cannot be served, told to the client as a problem document.

    Parameters
    ----------
    status : int
        HTTP status.
    detail : str
        One sentence for the person who reads it.
    errors : list of dict
        One entry a wrong field: ``field``, ``value``, ``allowed``.
    headers : dict, optional
        Additional response headers.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []
        self.headers = headers


def field_problem(field: str, value: object, allowed: str, status: int = 422) -> ProblemError:
    """A problem with one field."""
    shown = _shown(value)
    return ProblemError(
        status, f"{field} {shown!r} is not valid: {allowed}", [{"field": field, "value": shown, "allowed": allowed}]
    )


def _shown(value: object) -> object:
    """A value as it may be echoed: short, and only what JSON can carry."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def problem_response(
    request: Request,
    status: int,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """The document itself."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "instance": request.url.path,
    }
    if errors:
        document["errors"] = errors
    return JSONResponse(document, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _from_validation(error: RequestValidationError) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in error.errors():
        place = [str(part) for part in item["loc"] if part not in {"body", "query", "path"}]
        value = item.get("input")
        if isinstance(value, dict | list):
            value = None
        found.append(
            {"field": ".".join(place) or str(item["loc"][0]), "value": _shown(value), "allowed": str(item["msg"])}
        )
    return found


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem document."""

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return problem_response(request, error.status, error.detail, error.errors, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = _from_validation(error)
        detail = "; ".join(f"{e['field']}: {e['allowed']}" for e in errors)
        return problem_response(request, 422, detail, errors)

    @app.exception_handler(StarletteHTTPException)
    async def _http(request: Request, error: StarletteHTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return problem_response(request, error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(StoreUnavailableError)
    async def _unavailable(request: Request, error: StoreUnavailableError) -> JSONResponse:
        _log.warning("store unavailable", path=request.url.path, error=str(error))
        return problem_response(
            request, 503, "the database cannot be reached now; try again", headers={"retry-after": "5"}
        )

    @app.exception_handler(NotFoundError)
    async def _not_found(request: Request, error: NotFoundError) -> JSONResponse:
        return problem_response(request, 404, str(error))

    @app.exception_handler(InvalidDataError)
    async def _invalid(request: Request, error: InvalidDataError) -> JSONResponse:
        return problem_response(request, 422, str(error))

    @app.exception_handler(StoreError)
    async def _store(request: Request, error: StoreError) -> JSONResponse:
        _log.error("store error", path=request.url.path, error=str(error))
        return problem_response(request, 500, "the request could not be served; the service's log tells why")

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("unexpected error", path=request.url.path, traceback="".join(traceback.format_exception(error)))
        return problem_response(request, 500, "the request could not be served; the service's log tells why")
