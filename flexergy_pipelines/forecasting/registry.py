"""Trained targets in MLflow: one registered model a target; alias `champion` serves, `previous` stands in for it."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flexergy_pipelines.forecasting.trained import TrainedTarget

CHAMPION, PREVIOUS = "champion", "previous"
BUNDLE = "bundle.pickle"
REQUIREMENTS = ["flexergy", "lightgbm==4.7.0", "numpy==2.4.6", "polars==2.1.0"]


class RegistryUnavailableError(RuntimeError):
    """The registry cannot be reached."""


class ModelMissingError(LookupError):
    """No version stands under the alias, or its artifact cannot be read."""


@dataclass(frozen=True)
class RegisteredModel:
    """A trained target and the version it has in the registry."""

    trained: TrainedTarget
    version: str


class ModelRegistry:
    """The registry of one installation.

    Parameters
    ----------
    tracking_uri : str
        MLflow's server or database, e.g. ``postgresql+psycopg2://...`` or ``http://...``.
    artifacts_dir : Path
        Root of the artifacts; a folder per site is made in it.
    """

    def __init__(self, tracking_uri: str, artifacts_dir: Path) -> None:
        self.tracking_uri = tracking_uri
        self.artifacts_dir = Path(artifacts_dir).absolute()
        self._client: MlflowClient | None = None
        self._kept: dict[tuple[str, str], TrainedTarget] = {}
        self._last: dict[tuple[str, str], RegisteredModel] = {}

    def log(
        self,
        trained: TrainedTarget,
        *,
        promote: bool = True,
        note: str = "",
        facts: Mapping[str, str | float] | None = None,
    ) -> str:
        """Keep a trained target with its parameters, metrics, features and plots.

        Parameters
        ----------
        trained : TrainedTarget
        promote : bool
            Make it the champion; the champion so far becomes `previous`.
        note : str
            Why it was promoted or not; a tag of the version.
        facts : mapping or None
            What the models learned from and what was left out; parameters and tags of the run.

        Returns
        -------
        str
            Version.

        Raises
        ------
        RegistryUnavailableError
        """
        name, target = trained.target.name, trained.target
        with self._reached() as client, tempfile.TemporaryDirectory() as scratch:
            import mlflow
            import mlflow.pyfunc

            from flexergy_pipelines.forecasting.mlflow_model import TrainedTargetModel

            mlflow.set_tracking_uri(self.tracking_uri)
            mlflow.set_registry_uri(self.tracking_uri)
            experiment = self._experiment(client, f"forecasting.{target.site_id}")
            folder = Path(scratch)
            (folder / BUNDLE).write_bytes(pickle.dumps(trained))
            run_name = f"{target.asset_id} {trained.trained_at:%Y-%m-%d %H:%M}"
            with mlflow.start_run(experiment_id=experiment, run_name=run_name):
                mlflow.log_params(_parameters(trained) | dict(facts or {}))
                mlflow.log_metrics(trained.metrics)
                mlflow.log_dict({"features": list(trained.features)}, "features.json")
                mlflow.log_dict(trained.importance, "importance.json")
                mlflow.log_dict(trained.fitted.failures, "models_left_out.json")
                self._plots(trained, folder)
                for plot in sorted(folder.glob("*.png")):
                    mlflow.log_artifact(str(plot), "plots")
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=TrainedTargetModel(),
                    artifacts={"bundle": str(folder / BUNDLE)},
                    pip_requirements=REQUIREMENTS,
                    registered_model_name=name,
                )
            version = str(info.registered_model_version)
            if note:
                client.set_model_version_tag(name, version, "choice", note)
            if promote:
                with contextlib.suppress(ModelMissingError):
                    client.set_registered_model_alias(name, PREVIOUS, self._version(client, name, CHAMPION))
                client.set_registered_model_alias(name, CHAMPION, version)
        return version

    def load(self, name: str, alias: str = CHAMPION) -> RegisteredModel:
        """The trained target under an alias; from memory when its version was loaded before.

        Raises
        ------
        RegistryUnavailableError
        ModelMissingError
            No such version, or an artifact that is gone or corrupt.
        """
        with self._reached() as client:
            version = self._version(client, name, alias)
            key = (name, version)
            if key not in self._kept:
                self._kept = {
                    k: v for k, v in self._kept.items() if k[0] != name or k[1] in self._aliased(client, name)
                }
                self._kept[key] = self._read(client, name, version)
            model = RegisteredModel(self._kept[key], version)
            self._last[name, alias] = model
        return model

    def remembered(self, name: str, alias: str = CHAMPION) -> RegisteredModel | None:
        """What `load` gave last in this process, for when the registry is away."""
        return self._last.get((name, alias))

    def close(self) -> None:
        """Let go of database connections; the registry can be used again."""
        store = getattr(getattr(self._client, "_tracking_client", None), "store", None)
        dispose = getattr(store, "_dispose_engine", None)
        if dispose is not None:
            dispose()
        self._client = None

    @staticmethod
    def _aliased(client: MlflowClient, name: str) -> set[str]:
        return {str(version) for version in client.get_registered_model(name).aliases.values()}

    @staticmethod
    def _version(client: MlflowClient, name: str, alias: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return str(client.get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise ModelMissingError(f"{name}: no model stands under {alias!r}") from error
            raise

    def _read(self, client: MlflowClient, name: str, version: str) -> TrainedTarget:
        import mlflow.artifacts
        from mlflow.exceptions import MlflowException

        from flexergy_pipelines.forecasting.trained import TrainedTarget

        try:
            uri = client.get_model_version_download_uri(name, version)
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(
                    mlflow.artifacts.download_artifacts(uri, dst_path=scratch, tracking_uri=self.tracking_uri)
                )
                payload = next(iter(folder.rglob(BUNDLE))).read_bytes()
            trained = pickle.loads(payload)  # noqa: S301 - written by `log` into the installation's own artifacts
        except (MlflowException, OSError, StopIteration) as error:
            raise ModelMissingError(f"{name} version {version}: the artifact cannot be read ({error})") from error
        # a damaged pickle may fail with nearly any error
        except Exception as error:
            raise ModelMissingError(f"{name} version {version}: the artifact is corrupt ({error})") from error
        if not isinstance(trained, TrainedTarget):
            raise ModelMissingError(f"{name} version {version}: the artifact holds a {type(trained).__name__}")
        return trained

    def _experiment(self, client: MlflowClient, name: str) -> str:
        found = client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        folder = self.artifacts_dir / name
        folder.mkdir(parents=True, exist_ok=True)
        return client.create_experiment(name, artifact_location=folder.as_uri())

    @contextlib.contextmanager
    def _reached(self) -> Iterator[MlflowClient]:
        """The client; every way to fail to reach the registry becomes one error, and fast."""
        self._probe()
        # MLflow would otherwise retry a dead server for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # MLflow and what it imports warn about their own future
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                if self._client is None:
                    self._client = MlflowClient(self.tracking_uri, self.tracking_uri)
                yield self._client
            except (MlflowException, SQLAlchemyError, ConnectionError) as error:
                self._client = None
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise RegistryUnavailableError(f"model registry: {text}") from error

    def _probe(self) -> None:
        """One quick connection attempt."""
        parsed = urlparse(self.tracking_uri)
        scheme = parsed.scheme.split("+")[0]
        try:
            if scheme in ("http", "https"):
                port = parsed.port or (443 if scheme == "https" else 80)
                socket.create_connection((parsed.hostname or "localhost", port), timeout=2).close()
            elif scheme == "postgresql":
                import psycopg2

                plain = self.tracking_uri.replace(parsed.scheme, "postgresql", 1)
                psycopg2.connect(plain, connect_timeout=2).close()
            elif scheme == "sqlite" and not Path(unquote(parsed.path)).parent.is_dir():
                raise FileNotFoundError(f"no folder {Path(unquote(parsed.path)).parent}")
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RegistryUnavailableError(f"model registry is away: {text}") from error

    @staticmethod
    def _plots(trained: TrainedTarget, folder: Path) -> None:
        from flexergy_pipelines.forecasting.plots import write_plots

        write_plots(trained, folder)


def _parameters(trained: TrainedTarget) -> dict[str, str | int | float]:
    target = trained.target
    return {
        "kind": target.kind,
        "step_minutes": target.step_minutes,
        "horizon_hours": target.horizon_hours,
        "champion": trained.champion,
        "weights": ", ".join(f"{name} {weight:.2f}" for name, weight in trained.mix.weights.items()),
        "features": len(trained.features),
        "seed": trained.seed,
        "data_version": trained.data_version,
        "trained_at": trained.trained_at.isoformat(),
    }
