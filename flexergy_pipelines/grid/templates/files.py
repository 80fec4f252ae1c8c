"""Where templates and alarm words are: those that ship with the platform, and those of the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from flexergy_pipelines.settings import load_settings

SHIPPED = Path(__file__).parent
OWN = "templates"
"""Folder under the platform's home."""


def yaml_files(below: str = "") -> dict[str, Path]:
    """Files by name in a folder of the templates; a name that ships is not replaced by one of the installation."""
    own, shipped = (folder / below for folder in (load_settings().home / OWN, SHIPPED))
    return {path.stem: path for folder in (own, shipped) for path in sorted(folder.glob("*.yaml"))}


def read_yaml(path: Path) -> Any:
    """What a file holds.

    Raises
    ------
    ValueError
        It cannot be read, or is no YAML; one clear line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
