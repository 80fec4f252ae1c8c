"""What a part of a page shows while the database is away: a line that says so, and the next run tries again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import streamlit as st

from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.store.errors import StoreError

P = ParamSpec("P")
_log = get_logger(__name__)


def guarded(draw: Callable[P, None]) -> Callable[P, None]:
    """Draw, or say that the database does not answer; for parts that are drawn again by themselves."""

    @wraps(draw)
    def safely(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            draw(*args, **kwargs)
        except StoreError as error:
            _log.warning("page part not drawn", part=draw.__qualname__, error=str(error))
            st.warning("The database does not answer now. This part tries again by itself.", icon=":material/sync:")

    return safely
