"""Planning: the problem, its blocks, objectives, solving and the plan."""

from flexergy_pipelines.optimization.errors import ProblemError, SolveError
from flexergy_pipelines.optimization.plan import Plan, Violation
from flexergy_pipelines.optimization.problem import Horizon, Objective, Problem
from flexergy_pipelines.optimization.rolling import Planner
from flexergy_pipelines.optimization.solving import solve
from flexergy_pipelines.optimization.specs import (
    Battery,
    ControllableLoad,
    DemandCharge,
    Genset,
    GridConnection,
    Load,
    Renewable,
)
from flexergy_pipelines.optimization.specs_ev import EvBlock, EvSession
from flexergy_pipelines.optimization.specs_market import DeclaredProfile, Reserve, Service
from flexergy_pipelines.optimization.specs_wear import CalendarWear, CyclePoint, DepthWear

__all__ = [
    "Battery",
    "CalendarWear",
    "ControllableLoad",
    "CyclePoint",
    "DeclaredProfile",
    "DemandCharge",
    "DepthWear",
    "EvBlock",
    "EvSession",
    "Genset",
    "GridConnection",
    "Horizon",
    "Load",
    "Objective",
    "Plan",
    "Planner",
    "Problem",
    "ProblemError",
    "Renewable",
    "Reserve",
    "Service",
    "SolveError",
    "Violation",
    "solve",
]
