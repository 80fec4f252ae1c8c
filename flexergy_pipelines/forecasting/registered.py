"""A model as the registry gave it, and the copy on disk by which it serves on while the registry is away."""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flexergy_pipelines.logs import get_logger

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.trained import TrainedTarget

COPIES = "last_served"
_log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class RegisteredModel:
    """A trained target and the version it has in the registry."""

    trained: TrainedTarget
    version: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegisteredModel) and self.same_as(other)

    def __hash__(self) -> int:
        return hash((self.trained.target.name, self.version))

    def same_as(self, other: RegisteredModel) -> bool:
        """Whether both are the same version of the same model."""
        return (self.trained.target.name, self.version) == (other.trained.target.name, other.version)


def keep_copy(folder: Path, name: str, alias: str, model: RegisteredModel) -> None:
    """Keep a model for processes that start while the registry is away; a disk that refuses it is only logged."""
    path = _path(folder, name, alias)
    marker = path.with_suffix(".version")
    try:
        if marker.exists() and marker.read_text() == model.version and path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            pickle.dump((model.version, model.trained), file)
        Path(temporary).replace(path)
        marker.write_text(model.version)
    except OSError as error:
        _log.warning("no copy of the served model", model=name, error=str(error))


def read_copy(folder: Path, name: str, alias: str) -> RegisteredModel | None:
    """The model kept last; None when there is none or it cannot be read."""
    from flexergy_pipelines.forecasting.trained import TrainedTarget

    try:
        version, trained = pickle.loads(_path(folder, name, alias).read_bytes())  # noqa: S301 - written by `keep_copy`
    except FileNotFoundError:
        return None
    # a damaged pickle may fail with nearly any error
    except Exception as error:
        _log.warning("copy of the served model cannot be read", model=name, error=str(error))
        return None
    return RegisteredModel(trained, version) if isinstance(trained, TrainedTarget) else None


def _path(folder: Path, name: str, alias: str) -> Path:
    return folder / COPIES / f"{name}.{alias}.pickle"
