"""The site's network as the planner sees it: branches with a rating, and what hangs on which bus."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, NonNegative, Positive, negative


class Branch(Spec):
    """A line or transformer.

    Attributes
    ----------
    from_bus, to_bus : str
        Its ends; flow counts positive from the first to the second.
    limit_kw : series
        Largest active power either way (kW).
    reactance_pu : float
        Series reactance on any common base; only ratios matter, and only in a meshed network.
    """

    id: AssetId
    from_bus: AssetId
    to_bus: AssetId
    limit_kw: Series
    reactance_pu: Positive = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = negative(self.id, "limit_kw", self.limit_kw)
        if self.from_bus == self.to_bus:
            problems.append(f"{self.id}: from_bus and to_bus are both {self.to_bus}")
        if problems:
            raise ProblemError(problems)
        return self


class Network(Spec):
    """Linear (DC) power flow without losses; in a radial network the flows follow from the balance of each bus alone.

    Attributes
    ----------
    branches : tuple of Branch
        Lines and transformers in service.
    bus_of : mapping
        Bus of each asset; assets that are not named, and the grid connection, hang on `pcc_bus`.
    pcc_bus : str
        Where the public grid begins.
    breach_price_eur_per_kwh : float or None
        Price of a kilowatt-hour beyond a rating, which is a named violation; None for one that no price outweighs.
    """

    id: AssetId = "network"
    branches: Annotated[tuple[Branch, ...], Field(strict=False)]
    bus_of: dict[str, str] = Field(default_factory=dict)
    pcc_bus: AssetId
    breach_price_eur_per_kwh: NonNegative | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        reached, front = {self.pcc_bus}, {self.pcc_bus}
        while front:
            front = {b.to_bus for b in self.branches if b.from_bus in front} | {
                b.from_bus for b in self.branches if b.to_bus in front
            }
            front -= reached
            reached |= front
        ends = {b.from_bus for b in self.branches} | {b.to_bus for b in self.branches}
        problems = [
            f"{self.id}: bus {bus} is not connected to pcc_bus {self.pcc_bus}" for bus in sorted(ends - reached)
        ]
        problems += [
            f"{self.id}: bus_of puts {asset} at {bus}, which no branch reaches"
            for asset, bus in self.bus_of.items()
            if bus not in ends | {self.pcc_bus}
        ]
        names = [branch.id for branch in self.branches]
        problems += [
            f"{self.id}: branch {name} appears more than once"
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        if problems:
            raise ProblemError(problems)
        return self
