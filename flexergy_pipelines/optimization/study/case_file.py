"""The text of a case: YAML, read the way its writer meant it."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from flexergy_pipelines.optimization.errors import ProblemError

LARGEST_CASE_BYTES = 50_000_000
_INTEGER, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_MERGE = "tag:yaml.org,2002:merge"


class _Twice(yaml.YAMLError):
    """A field that a mapping gives more than once."""


class _Loader(yaml.CSafeLoader):
    """YAML with 1e-6 read as a number and 17:00 as a time of day, which refuses a field that is given twice."""

    # By YAML 1.1 a number with colons counts in sixties and one that begins with 0 in eights: 17:00 would be 1020.
    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_INTEGER, _FLOAT}]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise _Twice(f"{key.value} appears twice in one mapping, the second time in line {line}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_INTEGER, re.compile(r"^[-+]?\d+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\d+[eE][-+]?\d+$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def _integer(_: yaml.CSafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


_Loader.add_constructor(_INTEGER, _integer)


def read_case(path: Path) -> dict[str, Any]:
    """The fields of a case file.

    Raises
    ------
    ProblemError
        When the file can't be read, is too large, is not YAML or gives a field twice.
    """
    try:
        if path.stat().st_size > LARGEST_CASE_BYTES:
            raise ProblemError([f"{path.name} is larger than {LARGEST_CASE_BYTES // 1_000_000} MB"])
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProblemError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ProblemError([f"{path}: is not UTF-8 text: byte {error.start}"]) from None
    try:
        tree = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except _Twice as error:
        raise ProblemError([f"{path.name}: {error}"]) from None
    except yaml.YAMLError as error:
        raise ProblemError([f"{path.name}: is not YAML: {' '.join(str(error).split())}"]) from None
    except RecursionError:
        raise ProblemError([f"{path.name}: is nested too deeply"]) from None
    except ValueError as error:
        raise ProblemError([f"{path.name}: holds a date or number that does not exist: {error}"]) from None
    if tree is None:
        raise ProblemError([f"{path.name}: is empty, a case is a mapping of fields"])
    if not isinstance(tree, dict):
        raise ProblemError([f"{path.name}: holds {type(tree).__name__}, a case is a mapping of fields"])
    return tree
