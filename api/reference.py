"""The reference of the API as one page without anything from elsewhere, so that it also opens on a closed network."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--bg:#fbfcfc;--ink:#16211f;--line:#d5dedc;--soft:#eef3f2;--accent:#0b7a75}
@media(prefers-color-scheme:dark){:root{--bg:#0e1514;--ink:#e4ecea;--line:#2c3835;--soft:#18211f;--accent:#35c9bf}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1rem}h1{margin:.2rem 0}
h2{margin:2.2rem 0 .6rem;text-transform:capitalize}
details{border:1px solid var(--line);border-radius:.6rem;margin:.5rem 0;padding:.1rem .9rem}
summary{cursor:pointer;padding:.55rem 0;display:flex;flex-wrap:wrap;gap:.2rem .8rem;align-items:baseline}
.m{font-weight:700;color:var(--accent);min-width:3.2rem}code,pre{font-family:ui-monospace,monospace;font-size:.88rem}
pre{background:var(--soft);border-radius:.5rem;padding:.7rem;overflow:auto}.s{opacity:.75}
table{border-collapse:collapse;width:100%;font-size:.92rem;display:block;overflow-x:auto}
td,th{border-bottom:1px solid var(--line);text-align:left;padding:.35rem .7rem .35rem 0;vertical-align:top}
a{color:var(--accent)}
"""


def _type_of(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"{name}"
    if "anyOf" in schema:
        return " or ".join(_type_of(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    if kind == "string" and "format" in schema:
        kind = str(schema["format"])
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("minLength", "min length"),
            ("maxLength", "max length"),
        )
        if key in schema
    ]
    return " ".join([kind, *bounds])


def _markdown(text: str) -> str:
    """The little of Markdown that the descriptions use: paragraphs, lists, bold and code."""
    html: list[str] = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("- "):
            items = " ".join(lines).removeprefix("- ").split(" - **")
            html.append(
                "<ul>" + "".join(f"<li>{_inline(('**' if i else '') + item)}</li>" for i, item in enumerate(items))
            )
            html.append("</ul>")
        else:
            html.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(html)


def _inline(text: str) -> str:
    parts = escape(text).split("`")
    html = "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
    bold = html.split("**")
    return "".join(f"<b>{part}</b>" if place % 2 else part for place, part in enumerate(bold))


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _fields(schemas: dict[str, Any], name: str, seen: frozenset[str] = frozenset()) -> str:
    """Fields of a body, and of the bodies inside it."""
    schema = schemas.get(name, {})
    needed = set(schema.get("required", []))
    rows, inner = [], []
    for field, part in schema.get("properties", {}).items():
        mark = "" if field in needed else " <span class=s>(optional)</span>"
        rows.append(
            (f"<code>{escape(field)}</code>{mark}", escape(_type_of(part)), _inline(part.get("description", "")))
        )
        inner += [known for known in schemas if f'/{known}"' in json.dumps(part)]
    html = f"<h4>{escape(name)}</h4>" + _table(("field", "type", "meaning"), rows)
    for other in dict.fromkeys(inner):
        if other not in seen and other != name:
            html += _fields(schemas, other, seen | {name, other})
    return html


def _operation(schemas: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = [
        (
            f"<code>{escape(p['name'])}</code>",
            escape(p["in"]),
            escape(_type_of(p.get("schema", {}))),
            escape(
                str(p.get("schema", {}).get("default", "") if p.get("schema", {}).get("default") is not None else "")
            ),
            _inline(p.get("description", "")),
        )
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    html = _markdown(operation.get("description", ""))
    html += _table(("parameter", "in", "type", "default", "meaning"), parameters)
    if "$ref" in body:
        name = body["$ref"].rsplit("/", 1)[-1]
        html += "<h3>Body</h3>" + _fields(schemas, name)
        for example in schemas[name].get("examples", []):
            html += f"<pre>{escape(json.dumps(example, indent=1))}</pre>"
    good = next((answer for status, answer in operation.get("responses", {}).items() if status.startswith("2")), {})
    answer = good.get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in answer:
        html += "<h3>Answer</h3>" + _fields(schemas, answer["$ref"].rsplit("/", 1)[-1])
    summary = escape(operation.get("summary", ""))
    title = f"<span class=m>{method.upper()}</span><code>{escape(path)}</code><span class=s>{summary}</span>"
    return f"<details><summary>{title}</summary>{html}</details>"


def reference_html(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document.

    Parameters
    ----------
    document : dict
        What `FastAPI.openapi` gives.
    """
    schemas = document.get("components", {}).get("schemas", {})
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append(_operation(schemas, method, path, operation))
    parts = "".join(f"<h2>{escape(group)}</h2>{''.join(operations)}" for group, operations in groups.items())
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(info['title'])}</h1><p class=s>version {escape(info['version'])} · machine-readable: "
        f'<a href="/openapi.json">openapi.json</a></p>{_markdown(info.get("description", ""))}{parts}'
        "</main></body></html>"
    )
