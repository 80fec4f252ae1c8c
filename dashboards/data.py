"""What the pages read from and write to the store, for one site of one tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from flexergy_pipelines.grid import Site
from flexergy_pipelines.store import (
    alarms,
    bulk,
    clean,
    commands,
    energy,
    events,
    field_devices,
    forecasts,
    kpis_table,
    link_statistics,
    live,
    plans,
    prices,
    quality,
    readings,
    registering,
    setpoints,
)
from flexergy_pipelines.store.engine import TenantStore
from flexergy_pipelines.store.plans import ActivePlan, StoredPlan


@dataclass(frozen=True, slots=True)
class SiteData:
    """One site as a page sees it.

    Attributes
    ----------
    db : TenantStore
        The store bound to the user's own tenant.
    site : Site
        The site.
    """

    db: TenantStore
    site: Site

    def live(self) -> pl.DataFrame:
        """Newest value of each point."""
        return live.read_live(self.db, self.site.id)

    def setpoints(self) -> pl.DataFrame:
        """Newest setpoint of each actuator."""
        return setpoints.latest_setpoints(self.db, self.site.id)

    def alarms(self, *, active_only: bool = True) -> pl.DataFrame:
        """Alarms, worst first."""
        return alarms.list_alarms(self.db, self.site.id, active_only=active_only)

    def acknowledge(self, alarm_id: int, user: str) -> None:
        """Note that `user` has seen an alarm."""
        alarms.acknowledge_alarm(self.db, alarm_id, user)

    def active_plan(self, at: datetime) -> ActivePlan | None:
        """The newest plan that covers `at`."""
        return plans.read_active_plan(self.db, self.site.id, at)

    def plan_heads(self, limit: int = 20) -> list[StoredPlan]:
        """The newest plans without their values, newest first."""
        return plans.list_plans(self.db, self.site.id, limit)

    def plan_values(self, plan_id: int) -> pl.DataFrame:
        """Values of one plan."""
        return plans.read_plan_values(self.db, plan_id)

    def readings(self, start: datetime, end: datetime, points: list[tuple[str, str]], step: str | None) -> pl.DataFrame:
        """Measured values, averaged over `step`."""
        return readings.read_readings(self.db, self.site.id, start, end, points, step)

    def clean(self, start: datetime, end: datetime, points: list[tuple[str, str]]) -> pl.DataFrame:
        """Cleansed 15-min values."""
        return clean.read_clean(self.db, self.site.id, start, end, points)

    def quality(self, first: date, last: date) -> pl.DataFrame:
        """Quality of every measured point by local day."""
        return quality.read_quality(self.db, self.site.id, first, last)

    def findings(self, first: date, last: date) -> pl.DataFrame:
        """What the checks of the meters found on these days."""
        return quality.read_findings(self.db, self.site.id, first, last)

    def reading_statistics(self, start: datetime, end: datetime, by: str) -> pl.DataFrame:
        """How bulk reading went, by meter or concentrator."""
        return bulk.reading_statistics(self.db, self.site.id, start, end, by=by)

    def bulk_jobs(self) -> list[bulk.BulkJob]:
        """Jobs of bulk reading that operators set."""
        return bulk.list_bulk_jobs(self.db, self.site.id)

    def save_bulk_job(self, job: bulk.BulkJob, user: str) -> None:
        """Set a job of bulk reading."""
        bulk.save_bulk_job(self.db, job, actor=user)

    def delete_bulk_job(self, name: str, user: str) -> None:
        """Delete a job of bulk reading."""
        bulk.delete_bulk_job(self.db, self.site.id, name, actor=user)

    def link_summary(self, start: datetime, end: datetime) -> pl.DataFrame:
        """How well the link of each device worked."""
        return link_statistics.link_summary(self.db, self.site.id, start, end)

    def link_statistics(self, start: datetime, end: datetime) -> pl.DataFrame:
        """The same, a row a link and minute."""
        return link_statistics.read_link_statistics(self.db, self.site.id, start, end)

    def found_devices(self) -> list[field_devices.DeviceProposal]:
        """Devices that were found and wait for a decision."""
        return field_devices.list_proposals(self.db, self.site.id)

    def approve_device(self, proposal_id: int, device_id: str, fields: list[str], user: str) -> int:
        """Register a found device; gives the number of the site's new version."""
        return registering.approve(self.db, proposal_id, device_id, registering.fields_of(fields), user)[1]

    def reject_device(self, proposal_id: int, user: str) -> None:
        """Turn a found device down."""
        field_devices.decide_proposal(self.db, proposal_id, "rejected", user)

    def configurations(self, start: datetime, end: datetime) -> pl.DataFrame:
        """What became of the settings sent to this site's meters."""
        own = pl.col("site_id") == self.site.id
        kinds = pl.col("kind").is_in(["meter_configured", "meter_configuration_failed"])
        return events.list_events(self.db, start, end).filter(own & kinds)

    def energy(self, start: datetime, end: datetime, assets: list[str]) -> pl.DataFrame:
        """Energy of quarters of an hour."""
        return energy.read_energy(self.db, self.site.id, start, end, assets)

    def forecast(
        self, asset_id: str, quantity: str, start: datetime, end: datetime, known_at: datetime | None = None
    ) -> pl.DataFrame:
        """The forecast of one target as it was known."""
        return forecasts.read_forecast(self.db, self.site.id, asset_id, quantity, start, end, known_at)

    def prices(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Day-ahead prices."""
        return prices.read_prices(self.db, self.site.id, start, end)

    def kpis(self, period_kind: str, start: datetime, end: datetime) -> pl.DataFrame:
        """Indicators of the periods that begin in ``[start, end)``."""
        return kpis_table.read_kpis(self.db, self.site.id, period_kind=period_kind, start=start, end=end)

    def open_commands(self) -> list[commands.Command]:
        """Commands in force, oldest first."""
        return commands.open_commands(self.db, self.site.id)

    def ended_commands(self, limit: int = 8) -> list[commands.Command]:
        """The newest commands that have ended, with what became of them."""
        found = commands.list_commands(self.db, self.site.id, 4 * limit)
        return [command for command in found if command.closed_at is not None][:limit]

    def command(
        self, asset_id: str, quantity: str, value: float | None, *, reason: str, user: str, until: datetime | None
    ) -> None:
        """Command an actuator by hand until a time; `value` None hands it back to the plan."""
        commands.write_command(self.db, self.site.id, asset_id, quantity, value, reason, user, until)

    def replan(self, reason: str) -> None:
        """Ask for a new plan."""
        commands.request_replan(self.db, self.site.id, reason)

    def events(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Who did what to this site."""
        own = events.list_events(self.db, start, end)
        return own.filter((pl.col("site_id") == self.site.id) | pl.col("site_id").is_null())

    def setpoint_history(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Setpoints of a period."""
        return setpoints.read_setpoints(self.db, self.site.id, start, end)

    def standing_stop(self) -> commands.Command | None:
        """The emergency stop of the whole site that stands now, None when there is none or it was released."""
        stops = [
            command
            for command in commands.open_commands(self.db, self.site.id)
            if command.quantity == commands.EMERGENCY_STOP and command.asset_id is None
        ]
        return stops[-1] if stops and stops[-1].value == 1 else None

    def emergency_stop(self, *, active: bool, reason: str, user: str, now: datetime) -> None:
        """Ask the control loop to stop the whole site, or to go on."""
        lapse = None if active else now + timedelta(minutes=5)
        value = 1.0 if active else 0.0
        commands.write_command(self.db, self.site.id, None, "emergency_stop", value, reason, user, lapse)
