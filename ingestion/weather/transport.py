"""Fetching JSON from services that are slow, busy or broken now and then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import tenacity


class TransportError(Exception):
    """No answer that can be read; the message says what happened, without the address's query."""


class _TransientError(Exception):
    """Worth another try; carries the delay the service asked for, in seconds."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How patient to be.

    Attributes
    ----------
    attempts : int
        Tries in all.
    timeout_s : float
        Limit of one try, from connecting to the last byte [s].
    first_wait_s, longest_wait_s : float
        Wait after the first failure and its ceiling while doubling [s]. A ``Retry-After`` of the service counts up to
        the ceiling.
    """

    attempts: int = 3
    timeout_s: float = 10.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0


MAX_BODY_BYTES = 20_000_000


def get_json(
    url: str,
    params: Mapping[str, str],
    rules: RetryRules,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """GET `url` and parse the answer as JSON, trying again on 429, 5xx, time-outs and cut connections.

    Parameters
    ----------
    url : str
        Address without query.
    params : mapping
        Query parameters.
    rules : RetryRules
        Attempts and time limits.
    headers : mapping, optional
        Request headers.

    Raises
    ------
    TransportError
        When every attempt failed, or the service refused (4xx), or the body is no JSON.
    """
    body = get_bytes(url, params, rules, headers)
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise TransportError(f"answer is no valid JSON ({error})") from error


def get_bytes(
    url: str,
    params: Mapping[str, str],
    rules: RetryRules,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Like `get_json`, but the body as it came (at most 20 MB)."""
    backoff = tenacity.wait_exponential(multiplier=rules.first_wait_s, max=rules.longest_wait_s)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, _TransientError) else None
        return max(backoff(state), min(asked or 0.0, rules.longest_wait_s))

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(rules.attempts),
        wait=wait,
        retry=tenacity.retry_if_exception_type(_TransientError),
        reraise=True,
    )
    try:
        with httpx.Client(timeout=rules.timeout_s, headers=headers, follow_redirects=True) as client:
            return retrying(_once, client, url, params, rules)
    except _TransientError as error:
        raise TransportError(f"{error} ({rules.attempts} attempts)") from error


def _once(client: httpx.Client, url: str, params: Mapping[str, str], rules: RetryRules) -> bytes:
    import time

    deadline = time.monotonic() + rules.timeout_s
    try:
        # An empty mapping would take the query off the address.
        with client.stream("GET", url, params=dict(params) or None) as answer:
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
                raise _TransientError(f"HTTP {answer.status_code}", _retry_after(answer))
            if not answer.is_success:
                raise TransportError(f"HTTP {answer.status_code}: {_reason(answer)}")
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise TransportError(f"answer is longer than {MAX_BODY_BYTES // 1_000_000} MB")
                # httpx limits each read, not the whole: a service that drips bytes would hold the run for ever.
                if time.monotonic() > deadline:
                    raise _TransientError(f"no complete answer within {rules.timeout_s:g} s")
            return bytes(body)
    except httpx.TimeoutException as error:
        raise _TransientError(f"no answer within {rules.timeout_s:g} s") from error
    except httpx.TransportError as error:
        raise _TransientError(f"connection failed: {error or type(error).__name__}") from error
    except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise TransportError(f"address unusable: {error}") from error


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _reason(answer: httpx.Response) -> str:
    text = answer.read().decode("utf-8", "replace").strip()
    return " ".join(text.split())[:200] or answer.reason_phrase


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")
