"""The case: what a study file may say, and how it becomes a problem."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.problem import Horizon, Problem, StepMinutes
from flexergy_pipelines.optimization.series import to_series
from flexergy_pipelines.optimization.site_problem import SiteState, build_problem
from flexergy_pipelines.optimization.study.case_file import read_case
from flexergy_pipelines.optimization.study.files import SeriesFile, SeriesReader, steps_between
from flexergy_pipelines.optimization.study.time_of_use import TimeOfUse
from flexergy_pipelines.optimization.study.uncertainty import Uncertainty, scenarios_of
from flexergy_pipelines.optimization.study.windows import Windows


class SolverSettings(Spec):
    """How long, and how exactly, to solve.

    Attributes
    ----------
    time_limit_s : float
        On the wall clock, for each solve.
    mip_gap : float
        Relative gap at which a plan with on/off decisions counts as optimal.
    """

    time_limit_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    mip_gap: Annotated[float, Field(ge=0, lt=1)] = 1e-6


class Case(Problem):
    """A study case: every field of a problem, and how to study it.

    Attributes
    ----------
    case : int
        Version of this format; 1.
    name, description : str
        For the reports.
    windows : Windows or None
        Solve in windows instead of the whole horizon at once.
    uncertainty : Uncertainty or None
        Decide over scenarios instead of on the forecast alone.
    solver : SolverSettings
        Time and exactness.
    """

    case: Literal[1] = 1
    name: str = "study"
    description: str = ""
    windows: Windows | None = None
    uncertainty: Uncertainty | None = None
    solver: SolverSettings = SolverSettings()


@dataclass(frozen=True, slots=True)
class Study:
    """A case that was read: what is planned on, and what really happens where that differs."""

    name: str
    description: str
    problem: Problem
    actual: Problem
    windows: Windows | None
    solver: SolverSettings
    uncertainty: Uncertainty | None = None


def load_case(path: Path) -> Study:
    """Read a case file.

    Raises
    ------
    ProblemError
        With one clear line for each thing that is wrong; nothing outside the case's folder is read.
    """
    return parse_case(read_case(path), path.parent)


def parse_case(tree: dict[str, Any], folder: Path) -> Study:
    """Build a study from a case's fields; files are looked up in `folder`."""
    horizon = _horizon(tree.get("horizon"))
    reader = SeriesReader(folder, horizon)
    resolved = reader.resolve({key: value for key, value in tree.items() if key != "horizon"})
    site = resolved.pop("site", None)
    actual = resolved.pop("actual", None)
    if site is not None:
        resolved = _from_site(site, reader, horizon) | resolved
    case = Case(**resolved, horizon=horizon)
    problem = Problem(**{name: getattr(case, name) for name in Problem.model_fields})
    if case.windows is not None:
        # Each window would choose for itself what holds for the whole.
        wrong = [
            f"{b.id}: terminal 'cyclic'; give terminal 'equal'" for b in problem.batteries if b.terminal == "cyclic"
        ]
        wrong += [f"{b.id}: investment; sweep its capacity" for b in problem.batteries if b.investment is not None]
        if wrong:
            raise ProblemError(
                [f"windows: can't be combined with {line}, or solve the horizon whole" for line in wrong]
            )
    if case.uncertainty is not None:
        if case.windows is not None:
            raise ProblemError(["uncertainty: can't be combined with windows; leave one of them out"])
        scenarios_of(problem, case.uncertainty)
    return Study(
        name=case.name,
        description=case.description,
        problem=problem,
        actual=_with_actual(problem, actual),
        windows=case.windows,
        solver=case.solver,
        uncertainty=case.uncertainty,
    )


def _horizon(node: Any) -> Horizon:
    if not isinstance(node, dict):
        missing = "is missing" if node is None else f"{node!r} is no mapping of fields"
        raise ProblemError([f"horizon {missing}; give start, step_minutes, and steps or end"])
    fields = dict(node)
    for name in ("start", "end"):
        if isinstance(fields.get(name), str):
            try:
                fields[name] = datetime.fromisoformat(fields[name])
            except ValueError:
                raise ProblemError([f"horizon: {name} {fields[name]!r} is not an ISO time"]) from None
        if isinstance(fields.get(name), datetime) and fields[name].tzinfo is None:
            raise ProblemError([f"horizon: {name} {fields[name]} has no offset from UTC (write 2026-01-01T00:00Z)"])
    end = fields.pop("end", None)
    if end is not None:
        if "steps" in fields:
            raise ProblemError(["horizon: give steps or end, not both"])
        minutes = fields.get("step_minutes", 15)
        if not isinstance(end, datetime) or not isinstance(fields.get("start"), datetime):
            raise ProblemError(["horizon: start and end must be times"])
        if minutes not in get_args(StepMinutes):
            raise ProblemError([f"horizon: step_minutes {minutes!r} must be 5, 15, 30 or 60"])
        try:
            fields["steps"] = steps_between(fields["start"], end, minutes)
        except ValueError as error:
            raise ProblemError([f"horizon: {error}"]) from None
    try:
        return Horizon(**fields)
    except ProblemError as error:
        raise ProblemError([f"horizon: {line}" for line in error.problems]) from None


class SiteReference(Spec):
    """A site file, and the series and state that it is studied with.

    Attributes
    ----------
    file : str
        Site YAML in the case's folder.
    spot_eur_per_kwh : series
        Market price.
    power_kw : mapping
        Expected power of every source and load, by asset id.
    soc : mapping
        SoC of each ESS at the start; half full where not given.
    peak_so_far_kw : float
        Highest import of the billing period before the horizon.
    """

    file: str
    spot_eur_per_kwh: Any
    power_kw: dict[str, Any]
    soc: dict[str, float] = Field(default_factory=dict)
    peak_so_far_kw: float = 0.0


def _from_site(node: Any, reader: SeriesReader, horizon: Horizon) -> dict[str, Any]:
    """The fields of a problem made from a site file."""
    from flexergy_pipelines.grid import SiteError, load_site_file
    from flexergy_pipelines.optimization.series import expand

    if not isinstance(node, dict):
        raise ProblemError(["site must be a mapping with file, spot_eur_per_kwh and power_kw"])
    try:
        reference = SiteReference(**node)
    except ProblemError as error:
        raise ProblemError([f"site: {line}" for line in error.problems]) from None
    try:
        site = load_site_file(reader.path(reference.file))
    except SiteError as error:
        raise ProblemError([f"site {reference.file}: {line}" for line in error.problems]) from None
    series = {}
    needed = {asset.id for asset in site.assets() if asset.kind not in {"ess", "genset", "pcc"}}
    problems = [f"site: power_kw has no series for {name}" for name in sorted(needed - set(reference.power_kw))]
    problems += [
        f"site: power_kw names {name}, the site has no such asset" for name in reference.power_kw if name not in needed
    ]
    if problems:
        raise ProblemError(problems)
    for name, value in {**reference.power_kw, "spot_eur_per_kwh": reference.spot_eur_per_kwh}.items():
        try:
            series[name] = expand(to_series(value), horizon.steps)
        except ValueError as error:
            raise ProblemError([f"site: {name} {error}"]) from None
        if series[name].size != horizon.steps:
            raise ProblemError([f"site: {name} has {series[name].size} values, the horizon has {horizon.steps} steps"])
    spot = series.pop("spot_eur_per_kwh")
    state = SiteState(
        soc={ess.id: reference.soc.get(ess.id, 0.5) for ess in site.ess()}, peak_so_far_kw=reference.peak_so_far_kw
    )
    problem = build_problem(site, horizon, series, spot, state)
    return {name: getattr(problem, name) for name in Problem.model_fields if name != "horizon"}


def _with_actual(problem: Problem, actual: Any) -> Problem:
    """The problem with the series that turn out otherwise than expected, ``{asset: {field: series}}``."""
    if actual is None:
        return problem
    if not isinstance(actual, dict):
        raise ProblemError(["actual must map asset ids to fields and series"])
    changed = problem
    for name, fields in actual.items():
        if not isinstance(fields, dict):
            raise ProblemError([f"actual: {name} must map fields to series"])
        for field, value in fields.items():
            changed = replace_field(changed, f"{name}.{field}", value)
    return changed


def replace_field(problem: Problem, path: str, value: Any) -> Problem:
    """The problem with one field of one asset replaced, checked like the original.

    Parameters
    ----------
    path : str
        ``<asset id>.<field>``, ``<asset id>.<part>.<field>`` or ``objective.<field>``; a part that is one of several
        (a demand charge, a tariff, a branch) is said by its own id. ``ess`` stands for the only
        battery of a case, ``energy_kwh`` for ``energy_capacity_kwh``.
    """
    name, _, rest = path.partition(".")
    if (
        name == "ess"
        and len(problem.batteries) == 1
        and name not in {getattr(asset, "id", "") for asset in problem.assets()}
    ):
        return replace_field(problem, f"{problem.batteries[0].id}.{rest}", value)
    if name == "objective":
        return Problem(**{**dict(problem), "objective": _replaced(problem.objective, rest, value, path)})
    for group in Problem.model_fields:
        held = getattr(problem, group)
        assets = held if isinstance(held, tuple) else (held,)
        for position, asset in enumerate(assets):
            known = getattr(asset, "id", None)
            # An id may hold dots itself.
            if group == "id" or not isinstance(known, str) or not path.startswith(f"{known}."):
                continue
            changed = _replaced(asset, path.removeprefix(f"{known}."), value, path)
            rebuilt = (*assets[:position], changed, *assets[position + 1 :]) if isinstance(held, tuple) else changed
            return Problem(**{**dict(problem), group: rebuilt})
    known = ", ".join(str(getattr(asset, "id", "")) for asset in problem.assets())
    raise ProblemError([f"{path}: no asset {name!r} in this case, there are {known}"])


def _replaced(spec: Spec, field: str, value: Any, path: str) -> Spec:
    """A part of a problem with one of its fields, or one of a part inside it, replaced."""
    name, _, rest = field.partition(".")
    if name == "energy_kwh" and name not in type(spec).model_fields:
        name = "energy_capacity_kwh"
    if name not in type(spec).model_fields:
        for group, held in dict(spec).items():
            for position, part in enumerate(held if rest and isinstance(held, tuple) else ()):
                if getattr(part, "id", None) == name:
                    changed = (*held[:position], _replaced(part, rest, value, path), *held[position + 1 :])
                    return type(spec)(**{**dict(spec), group: changed})
        known = ", ".join(type(spec).model_fields)
        owner = getattr(spec, "id", path.partition(".")[0])
        raise ProblemError([f"{path}: {owner} has no field {name!r}; it has {known}"])
    if rest:
        inner = getattr(spec, name)
        if not isinstance(inner, Spec):
            raise ProblemError([f"{path}: {name} has no fields of its own here"])
        value = _replaced(inner, rest, value, path)
    return type(spec)(**{**dict(spec), name: value})


def case_schema() -> dict[str, Any]:
    """JSON Schema of a case file: every series may also be a reference to a file."""
    schema = Case.model_json_schema()
    schema["$defs"]["SeriesFile"] = SeriesFile.model_json_schema()
    by_clock = TimeOfUse.model_json_schema()
    schema["$defs"] |= by_clock.pop("$defs", {})
    schema["$defs"]["TimeOfUse"] = by_clock

    def widen(node: Any) -> None:
        if isinstance(node, dict):
            options = node.get("anyOf")
            if isinstance(options, list) and {"type": "number"} in options:
                options.append({"$ref": "#/$defs/SeriesFile"})
                options.append(
                    {
                        "type": "object",
                        "properties": {"time_of_use": {"$ref": "#/$defs/TimeOfUse"}},
                        "required": ["time_of_use"],
                        "additionalProperties": False,
                    }
                )
            for value in node.values():
                widen(value)
        elif isinstance(node, list):
            for value in node:
                widen(value)

    widen({key: value for key, value in schema.items() if key != "$defs"})
    for name, definition in schema["$defs"].items():
        if name not in {"SeriesFile", "TimeOfUse", "Period"}:
            widen(definition)
    _allow_end(schema["$defs"]["Horizon"])
    schema["$defs"]["SiteReference"] = SiteReference.model_json_schema()
    schema["properties"]["site"] = {"$ref": "#/$defs/SiteReference"}
    schema["properties"]["actual"] = {
        "type": "object",
        "description": "Series that turn out otherwise than planned on: asset id, then field, then series.",
        "additionalProperties": {"type": "object"},
    }
    schema["title"] = "Flexergy study case"
    return schema


def _allow_end(horizon: dict[str, Any]) -> None:
    """A horizon may say when it ends in place of the number of its steps."""
    horizon["properties"]["end"] = {
        "type": "string",
        "format": "date-time",
        "description": "End of the last step, in place of steps.",
    }
    horizon["required"].remove("steps")
    horizon["oneOf"] = [{"required": ["steps"]}, {"required": ["end"]}]
