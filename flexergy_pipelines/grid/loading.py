"""Reading and writing sites: YAML or dict to a validated `Site`, with one clear line for each thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flexergy_pipelines.grid.site import Site


class SiteError(ValueError):
    """A site that cannot be accepted.

    Attributes
    ----------
    problems : list of str
        One line each, naming the place, the value and what is allowed.
    """

    def __init__(self, problems: list[str], source: str | None = None) -> None:
        self.problems = problems
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(prefix + problem for problem in problems))


# The C parser is ten times faster; PyYAML has it wherever it was built with libyaml.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _UniqueKeyLoader(_SafeLoader):
    """Refuses a key that is given twice: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_site_file(path: str | Path) -> Site:
    """Read one site from a YAML file.

    Raises
    ------
    SiteError
        The file cannot be read, is no YAML, or describes no valid site.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SiteError([f"cannot be read: {error.strerror}"], str(path)) from None
    except UnicodeDecodeError as error:
        raise SiteError([f"is not UTF-8 text: byte {error.start}"], str(path)) from None
    try:
        return parse_site_text(text)
    except SiteError as error:
        raise SiteError(error.problems, path.name) from None


def parse_site_text(text: str) -> Site:
    """Read one site from YAML text.

    Raises
    ------
    SiteError
        The text is no YAML or describes no valid site.
    """
    try:
        raw = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SiteError([f"{line}{error.problem or 'is no YAML'}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SiteError([f"is no YAML: {str(error).splitlines()[0]}"]) from None
    return parse_site(raw)


def parse_site(raw: object) -> Site:
    """Validate a site given as plain data.

    Raises
    ------
    SiteError
        Something is missing, unknown, out of range or inconsistent.
    """
    if not isinstance(raw, Mapping):
        raise SiteError([f"a site is a mapping of fields, not {type(raw).__name__}"])
    try:
        text = json.dumps(raw, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise SiteError([f"holds something that is no plain value: {error}"]) from None
    try:
        # JSON mode keeps strictness but takes lists for tuples, as YAML can express nothing else.
        return Site.model_validate_json(text)
    except ValidationError as error:
        raise SiteError(_problems(error, raw)) from None


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r}")


def _problems(error: ValidationError, raw: object) -> list[str]:
    items = error.errors(include_url=False)
    lines: list[str] = []
    for item in items:
        loc = item["loc"]
        if item["type"] == "too_short" and any(o["loc"][: len(loc)] == loc and o["loc"] != loc for o in items):
            continue  # the list is only short because its entries were refused, and those are told
        path, ident, value = _locate(loc, raw)
        where = " ".join(part for part in (path, ident) if part)
        lines += [f"{where}: {line}" if where else line for line in _message(item, value).splitlines()]
    return list(dict.fromkeys(lines))


def _locate(loc: tuple[int | str, ...], raw: object) -> tuple[str, str, object]:
    """Path as written in the file, id of the innermost thing that has one, and the offending value."""
    path, ident = "", ""
    current: Any = raw
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
            current = current[part] if isinstance(current, list | tuple) and part < len(current) else None
        else:
            if isinstance(current, Mapping):
                if part not in current and part == current.get("kind"):
                    continue  # the tag of a union, not a field
                current = current.get(part)
            else:
                current = None
            path += f".{part}" if path else part
        if isinstance(current, Mapping) and isinstance(current.get("id"), str):
            ident = current["id"]
    return path, ident, current


def _message(item: Any, value: object) -> str:
    context = item.get("ctx", {})
    shown = (
        json.dumps(value, default=str) if isinstance(value, str | int | float | bool) or value is None else "the value"
    )
    if item["type"] == "value_error":
        return str(context["error"])
    if item["type"] == "missing":
        return "is missing"
    if item["type"] == "extra_forbidden":
        return "is no known field"
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = f"kind {context['tag']} is unknown" if "tag" in context else "kind is missing"
        return f"{given}, allowed are {context.get('expected_tags', 'the known kinds')}"
    text = item["msg"].removeprefix("Input should be ").removeprefix("Input should have ")
    return (
        f"{shown} is not allowed: should be {text}"
        if item["msg"].startswith("Input should be")
        else f"{shown}: {item['msg']}"
    )


def site_to_dict(site: Site) -> dict[str, Any]:
    """The site as plain data that `parse_site` gives back identically."""
    return site.model_dump(mode="json", exclude_none=True)


def dump_site(site: Site) -> str:
    """The site as YAML that `load_site_file` gives back identically."""
    return yaml.dump(site_to_dict(site), Dumper=_SafeDumper, sort_keys=False, allow_unicode=True, width=120)


def site_json_schema() -> dict[str, Any]:
    """JSON Schema of a site file, so that editors complete and check it."""
    schema = Site.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Flexergy site", **schema}
