"""Data docs: what Great Expectations found of each source, as pages of their own under ``<home>/data_docs``.

Its own renderer is not used: its pages load styles and scripts from a dozen foreign servers and tell one of them the id
of the project, and without a network they are bare. These hold everything they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

KEPT_PAGES = 60
"""Pages kept of each source; nightly validation makes that two months."""

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin:1.6rem 0 .4rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .7rem;border-bottom:1px solid #8884;vertical-align:top}
th{font-weight:600;white-space:nowrap}td.n{text-align:right}
.ok{color:#2b8a3e}.warning{color:#b35c00}.blocking{color:#c92a2a}.ok,.warning,.blocking{font-weight:600;white-space:nowrap}
code{font-size:.9em;overflow-wrap:anywhere}p.s{opacity:.75;margin:.1rem 0}
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """One expectation as it came out.

    Attributes
    ----------
    site : str
        The site.
    expectation : str
        What was expected, in words: kind, column and limits.
    severity : str
        ``blocking`` or ``warning``.
    success : bool
        Whether it held.
    observed : str
        What was seen, or how many values were not as expected.
    samples : tuple of str
        Some of the values that were not.
    """

    site: str
    expectation: str
    severity: str
    success: bool
    observed: str = ""
    samples: tuple[str, ...] = ()


def folder_of(home: Path, tenant: str) -> Path:
    """Where a tenant's pages lie."""
    return home / "data_docs" / tenant


def write_page(folder: Path, source: str, at: datetime, judged: Sequence[Judged]) -> Path:
    """Write the page of one validation of a source, and the index anew; pages beyond `KEPT_PAGES` are deleted.

    Parameters
    ----------
    folder : Path
        Of the tenant, see `folder_of`.
    source : str
        Name of the asset.
    at : datetime
        When it was validated.
    judged : sequence of Judged
        Everything that was looked at.

    Returns
    -------
    Path
        The page.
    """
    own = folder / source
    own.mkdir(parents=True, exist_ok=True)
    page = own / f"{at:%Y%m%dT%H%M%SZ}.html"
    failed = [one for one in judged if not one.success]
    title = f"{source.replace('_', ' ')}, {at:%d %b %Y %H:%M} UTC"
    body = [
        f"<p class=s>{len(judged)} expectations, {len(failed)} not met. <a href='../index.html'>All sources</a></p>"
    ]
    for site in dict.fromkeys(one.site for one in judged):
        rows = [_row(one) for one in sorted(judged, key=lambda one: one.success) if one.site == site]
        head = "<tr><th>result</th><th>expected</th><th>seen</th><th>samples</th></tr>"
        body.append(f"<h2>{escape(site)}</h2><div class=scroll><table>{head}{''.join(rows)}</table></div>")
    _write(page, title, "".join(body))
    for old in sorted(own.glob("*.html"))[:-KEPT_PAGES]:
        old.unlink()
    _write_index(folder, source, failed)
    return page


def _row(one: Judged) -> str:
    word = ("met" if one.success else one.severity, "ok" if one.success else one.severity)
    samples = ", ".join(f"<code>{escape(sample)}</code>" for sample in one.samples)
    return (
        f"<tr><td class={word[1]}>{escape(word[0])}</td><td>{escape(one.expectation)}</td>"
        f"<td>{escape(one.observed)}</td><td>{samples}</td></tr>"
    )


def _write_index(folder: Path, source: str, failed: Sequence[Judged]) -> None:
    """The list of sources with their pages, newest first; how each page came out is told by its own heading."""
    (folder / source / "newest.txt").write_text(f"{len(failed)}", encoding="utf-8")
    rows = []
    for own in sorted(path for path in folder.iterdir() if path.is_dir()):
        pages = sorted(own.glob("*.html"), reverse=True)
        if not pages:
            continue
        open_ones = (own / "newest.txt").read_text(encoding="utf-8") if (own / "newest.txt").exists() else "0"
        state = (
            "<td class=ok>all met</td>" if open_ones == "0" else f"<td class=warning>{escape(open_ones)} not met</td>"
        )
        links = " · ".join(
            f"<a href='{escape(own.name)}/{page.name}'>{datetime.strptime(page.stem, '%Y%m%dT%H%M%SZ'):%d %b %H:%M}</a>"  # noqa: DTZ007 - shown only
            for page in pages[:10]
        )
        rows.append(f"<tr><th>{escape(own.name.replace('_', ' '))}</th>{state}<td>{links}</td></tr>")
    head = "<tr><th>source</th><th>newest</th><th>validations (UTC)</th></tr>"
    _write(folder / "index.html", "Data docs", f"<div class=scroll><table>{head}{''.join(rows)}</table></div>")


def _write(path: Path, title: str, body: str) -> None:
    text = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
