"""Trained targets in MLflow: one registered model a target; alias `champion` serves, `previous` stands in for it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from flexergy_pipelines.forecasting import run_notes
from flexergy_pipelines.forecasting.registered import RegisteredModel, keep_copy, read_copy

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from flexergy_pipelines.forecasting.explain import Explanation
    from flexergy_pipelines.forecasting.targets import Target
    from flexergy_pipelines.forecasting.trained import TrainedTarget

CHAMPION, PREVIOUS = "champion", "previous"
BUNDLE = "bundle.pickle"
AWAY_S = 20.0
"""Time for which a registry that did not answer is not asked again [s]: a site has many targets."""

REQUIREMENTS = ["flexergy", "lightgbm==4.7.0", "numpy==2.4.6", "polars==2.1.0"]


class RegistryUnavailableError(RuntimeError):
    """The registry cannot be reached."""


class ModelMissingError(LookupError):
    """No version stands under the alias, or its artifact cannot be read."""


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
        self._away: tuple[str, float, str] | None = None
        self.reachable: bool | None = None
        """Whether the last attempt reached the registry; None before the first."""

    def log(
        self,
        trained: TrainedTarget,
        *,
        promote: bool = True,
        note: str = "",
        facts: Mapping[str, str | float] | None = None,
        explanation: Explanation | None = None,
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
            What the models learned from and what was left out; parameters of the run.
        explanation : Explanation or None
            Which features move the forecast; drawn and kept with the run.

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
            facts = dict(facts or {})
            words = run_notes.description(trained, facts, promoted=promote, note=note)
            with mlflow.start_run(experiment_id=experiment, run_name=run_name, description=words):
                mlflow.set_tags(run_notes.tags(trained, promoted=promote, note=note))
                mlflow.log_params(_parameters(trained) | facts)
                mlflow.log_metrics(trained.metrics | run_notes.metrics_by_lead(trained))
                strength = explanation.strength if explanation else {}
                features = run_notes.features_table(trained, strength)
                mlflow.log_text(features.write_csv(float_precision=6), "features.csv")
                mlflow.log_dict(trained.fitted.failures, "models_left_out.json")
                self._plots(trained, explanation, folder)
                for plot in sorted(folder.glob("*.png")):
                    mlflow.log_artifact(str(plot), "plots")
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=TrainedTargetModel(),
                    artifacts={"bundle": str(folder / BUNDLE)},
                    pip_requirements=REQUIREMENTS,
                )
            version = self._register(client, target, str(info.model_uri), words)
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
            if self._last.get((name, alias)) != model:
                keep_copy(self.artifacts_dir, name, alias, model)
            self._last[name, alias] = model
        return model

    def remembered(self, name: str, alias: str = CHAMPION) -> RegisteredModel | None:
        """What `load` gave last in this process, or in any process of this machine, for when the registry is away."""
        if (name, alias) not in self._last:
            copy = read_copy(self.artifacts_dir, name, alias)
            if copy is None:
                return None
            self._last[name, alias] = copy
        return self._last[name, alias]

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
        note = run_notes.EXPERIMENT_NOTE.format(site=name.partition(".")[2])
        return client.create_experiment(name, artifact_location=folder.as_uri(), tags={"mlflow.note.content": note})

    @contextlib.contextmanager
    def _reached(self) -> Iterator[MlflowClient]:
        """The client; every way to fail to reach the registry becomes one error, and fast."""
        self.reachable = False
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

            # importing it sets its level anew
            logging.getLogger("mlflow").setLevel(logging.ERROR)
            try:
                if self._client is None:
                    self._client = MlflowClient(self.tracking_uri, self.tracking_uri)
                yield self._client
                self.reachable = True
            except ModelMissingError:
                self.reachable = True
                raise
            except (MlflowException, SQLAlchemyError, ConnectionError) as error:
                self._client = None
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise RegistryUnavailableError(f"model registry: {text}") from error

    def _probe(self) -> None:
        """One quick connection attempt, or none while the last one that failed is fresh."""
        if self._away and self._away[0] == self.tracking_uri and time.monotonic() < self._away[1]:
            raise RegistryUnavailableError(self._away[2])
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
            self._away = (self.tracking_uri, time.monotonic() + AWAY_S, f"model registry is away: {text}")
            raise RegistryUnavailableError(self._away[2]) from error

    @staticmethod
    def _plots(trained: TrainedTarget, explanation: Explanation | None, folder: Path) -> None:
        from flexergy_pipelines.forecasting.explain import write_importance
        from flexergy_pipelines.forecasting.plots import write_plots

        write_plots(trained, folder)
        if explanation is not None:
            write_importance(explanation, f"{trained.target.name}: what moves the forecast of the trees", folder)

    @staticmethod
    def _register(client: MlflowClient, target: Target, uri: str, words: str) -> str:
        """Version under which a logged model is registered; MLflow's announcements on the terminal are left out."""
        import mlflow

        with contextlib.redirect_stderr(io.StringIO()):
            version = str(mlflow.register_model(uri, target.name).version)
        if version == "1":
            client.update_registered_model(target.name, run_notes.model_description(target))
        client.update_model_version(target.name, version, words)
        return version


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
        **{f"trees.{name}": value for name, value in getattr(trained, "tuned", {}).items()},
    }
