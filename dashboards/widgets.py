"""Small pieces that several pages show the same way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

import polars as pl
import streamlit as st

from dashboards.session import PageContext
from dashboards.theme import SEVERITY_COLOURS, SEVERITY_NAMES
from dashboards.views.overview_html import CSS, tile
from dashboards.words import duration, local_time, zone_label
from flexergy_pipelines.grid import Site


def heading(context: PageContext, title: str, *, wide_note: str = "") -> None:
    """Title of a page with the site and its time zone."""
    st.subheader(title, anchor=False)
    note = f"{context.site.name} · times in {zone_label(context.now, context.site.zone)}"
    st.caption(note + (f" · {wide_note}" if wide_note else ""))


def empty(what: str, when: str) -> None:
    """An empty state: what will be here, and what makes it come."""
    st.info(f"**{what}** {when}", icon=":material/hourglass_empty:")


def tiles(figures: Sequence[tuple[str, str, str]]) -> None:
    """Figures side by side that never lose a digit on a narrow screen: name, value, a line below."""
    if figures:
        parts = "".join(tile(name, value, below) for name, value, below in figures)
        st.html(f'{CSS}<div class="fx-tiles fx-dense">{parts}</div>')


def text_table(frame: pl.DataFrame, *, unbroken: Sequence[str] = (), cards: bool = False) -> None:
    """A table of text whose cells wrap instead of hiding their end; columns in `unbroken` stay on one line.

    With `cards` a phone shows each row as a card, a line a cell: for wide tables whose rows are read one by one.
    """
    heads = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    lines = []
    for row in frame.iter_rows(named=True):
        cells = "".join(
            f'<td data-of="{escape(name)}"{" class=fx-nw" if name in unbroken else ""}>{escape(str(value))}</td>'
            for name, value in row.items()
        )
        lines.append(f"<tr>{cells}</tr>")
    kind = "fx-table fx-cards" if cards else "fx-table"
    st.html(f'{CSS}<div class="fx-scroll"><table class="{kind}"><tr>{heads}</tr>{"".join(lines)}</table></div>')


def alarm_list(frame: pl.DataFrame, site: Site, now: datetime, *, limit: int = 6) -> None:
    """Active alarms in a few lines, worst first."""
    if frame.is_empty():
        st.html('<div style="opacity:.8">No active alarms.</div>')
        return
    rows = []
    for row in frame.sort("severity", "first_at").head(limit).iter_rows(named=True):
        colour = SEVERITY_COLOURS.get(row["severity"], "#7A8899")
        name = SEVERITY_NAMES.get(row["severity"], str(row["severity"]))
        where = f" · {escape(row['asset_id'])}" if row["asset_id"] else ""
        since = f"since {local_time(row['first_at'], site.zone)} ({duration((now - row['first_at']).total_seconds())})"
        seen = f" · seen by {escape(row['acknowledged_by'])}" if row["acknowledged_by"] else ""
        rows.append(
            f'<div style="border-left:4px solid {colour};padding:.25rem .7rem;margin:.35rem 0">'
            f'<b style="color:{colour}">{escape(name)}</b>{where} · {escape(row["message"])}'
            f'<div style="font-size:.8rem;opacity:.75">{escape(row["code"])} · {since}{seen}</div></div>'
        )
    more = frame.height - limit
    if more > 0:
        rows.append(f'<div style="opacity:.75;font-size:.85rem">and {more} more on the page Alarms</div>')
    st.html("".join(rows))
