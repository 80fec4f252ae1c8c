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
    EnergyTier,
    FuelPoint,
    Genset,
    GridConnection,
    Headroom,
    Inverter,
    Investment,
    Load,
    Renewable,
    ShiftableLoad,
    TieredTariff,
)
from flexergy_pipelines.optimization.specs_base import EfficiencyPoint, SharePoint
from flexergy_pipelines.optimization.specs_ev import EvBlock, EvGroup, EvSession
from flexergy_pipelines.optimization.specs_market import DeclaredProfile, Reserve, Service
from flexergy_pipelines.optimization.specs_network import Branch, Network
from flexergy_pipelines.optimization.specs_reactive import ReactivePoint, ReactiveSupport
from flexergy_pipelines.optimization.specs_wear import CalendarWear, CyclePoint, DepthWear

__all__ = [
    "Battery",
    "Branch",
    "CalendarWear",
    "ControllableLoad",
    "CyclePoint",
    "DeclaredProfile",
    "DemandCharge",
    "DepthWear",
    "EfficiencyPoint",
    "EnergyTier",
    "EvBlock",
    "EvGroup",
    "EvSession",
    "FuelPoint",
    "Genset",
    "GridConnection",
    "Headroom",
    "Horizon",
    "Inverter",
    "Investment",
    "Load",
    "Network",
    "Objective",
    "Plan",
    "Planner",
    "Problem",
    "ProblemError",
    "ReactivePoint",
    "ReactiveSupport",
    "Renewable",
    "Reserve",
    "Service",
    "SharePoint",
    "ShiftableLoad",
    "SolveError",
    "TieredTariff",
    "Violation",
    "solve",
]
