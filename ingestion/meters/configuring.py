"""Bulk configuration: settings sent to a list of meters at once, each with its tries, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, get_args

from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.metering.dlms import DlmsClient, MeterError, MeterRefusal
from flexergy_pipelines.metering.keys import Credentials
from flexergy_pipelines.metering.settings_on_meter import (
    read_capture_period,
    read_clock,
    set_capture_period,
    set_clock,
)
from ingestion.meters.bulk import BulkRules, address_of, read_in_bulk

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from flexergy_pipelines.grid import Device, Site
    from flexergy_pipelines.store import TenantStore

CAPTURE_PERIOD: Final = "capture period"
CLOCK: Final = "clock"
CONFIGURED: Final = "meter_configured"
FAILED: Final = "meter_configuration_failed"
CLOCK_TOLERANCE_S: Final = 2.0
"""A clock this near [s] is right: answers take their time."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WantedSettings:
    """What meters are set to.

    Attributes
    ----------
    capture_minutes : int or None
        Length of an interval of the load profile [min], one that a site's file allows; None leaves it.
    clock : bool
        Whether the clock is set to the platform's time.
    """

    capture_minutes: int | None = None
    clock: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs from what is wanted: the capture period [min], or how far the clock is ahead [s]."""

    setting: str
    before: float
    after: float

    def text(self) -> str:
        """In words."""
        if self.setting == CAPTURE_PERIOD:
            return f"{CAPTURE_PERIOD} {self.before:g} → {self.after:g} min"
        return f"{CLOCK} {self.before:+.1f} s off → {self.after:+.1f} s"


@dataclass(frozen=True, slots=True)
class ConfigureOutcome:
    """What became of one meter.

    Attributes
    ----------
    meter : str
        Its id.
    success : bool
        Whether it now has every setting wanted (of a dry run: whether it answered).
    attempts : int
        Tries it took.
    changes : tuple of Change
        What was changed (of a dry run: what would be), also when another setting failed.
    error : str or None
        Why it failed.
    """

    meter: str
    success: bool
    attempts: int
    changes: tuple[Change, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    device: Device
    host: str
    port: int
    credentials: Credentials
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class _Sending:
    wanted: WantedSettings
    rules: BulkRules
    dry_run: bool
    now: Callable[[], datetime]


def capture_periods() -> tuple[int, ...]:
    """Capture periods that a meter of a site may have [min]."""
    from flexergy_pipelines.grid.controllers import Meter

    return get_args(Meter.model_fields["integration_period_minutes"].annotation)


def configure_in_bulk(
    db: TenantStore,
    site: Site,
    addresses: Mapping[str, str],
    wanted: WantedSettings,
    *,
    actor: str,
    meters: Sequence[str] | None = None,
    dry_run: bool = False,
    rules: BulkRules | None = None,
    credentials: Callable[[Device], Credentials] | None = None,
    progress: Callable[[ConfigureOutcome, int, int], None] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> tuple[ConfigureOutcome, ...]:
    """Send settings to meters, read each back, and keep what became of each as an event.

    Parameters
    ----------
    db : TenantStore
        Where events and the site's new version go.
    site : Site
        Whose meters.
    addresses : mapping
        Published addresses ``<site>/<meter>`` → ``host:port``; a meter without one is at its configured address.
    wanted : WantedSettings
        What they are set to.
    actor : str
        Who sends them.
    meters : sequence of str, optional
        Ids of the meters; all of the site that speak DLMS when left out.
    dry_run : bool
        Only ask what they are set to now; nothing is sent or stored.
    rules : BulkRules, optional
        Tries, pauses, time limit and how many at once.
    credentials : callable, optional
        Gives the credentials of a device; none when left out.
    progress : callable, optional
        Told each outcome, how many are done and how many there are.
    now : callable
        The platform's clock.

    Returns
    -------
    tuple of ConfigureOutcome
        One for each meter, in the order asked.

    Raises
    ------
    ValueError
        Nothing to set, a period not allowed, a meter that is not of the site or cannot be set; nothing was sent.

    Notes
    -----
    A meter empties its load profile when the capture period changes, so what it holds is read and stored before; one
    that does not give it is left as it is. The site's file is then brought to the periods that the meters took, as one
    new version.
    """
    devices = _devices(site, wanted, meters)
    rules = rules or BulkRules()
    unread: dict[str, ConfigureOutcome] = {}
    if wanted.capture_minutes is not None and not dry_run:
        profile = BulkRules(rules.attempts, rules.timeout_s, rules.parallel, rules.pause_s, ("profile",))
        report = read_in_bulk(
            db, site, now(), addresses, meters=[d.id for d in devices if d.assets], rules=profile,
            job="before configuring", credentials=credentials,
        )  # fmt: skip
        unread = {
            o.meter: ConfigureOutcome(o.meter, False, o.attempts, (), f"its load profile cannot be saved: {o.error}")
            for o in report.outcomes
            if not o.success
        }
        if progress is not None:
            for done, outcome in enumerate(unread.values(), start=1):
                progress(outcome, done, len(devices))
    tasks = [
        _Task(
            device,
            *address_of(device, addresses),
            credentials(device) if credentials is not None else Credentials(),
            device.connection.zone(site.zone),
        )
        for device in devices
        if device.id not in unread
    ]

    def told(outcome: ConfigureOutcome, done: int, count: int) -> None:
        if progress is not None:
            progress(outcome, len(unread) + done, len(unread) + count)

    found = {o.meter: o for o in asyncio.run(_configure_all(tasks, _Sending(wanted, rules, dry_run, now), told))}
    outcomes = tuple((found | unread)[device.id] for device in devices)
    if not dry_run:
        _keep(db, site.id, outcomes, wanted, actor)
    _log.info(
        "bulk configuration done", site=site.id, meters=len(outcomes), failed=sum(not o.success for o in outcomes)
    )
    return outcomes


def _devices(site: Site, wanted: WantedSettings, meters: Sequence[str] | None) -> list[Device]:
    if wanted.capture_minutes is None and not wanted.clock:
        raise ValueError("nothing to set: give a capture period, the clock, or both")
    allowed = capture_periods()
    if wanted.capture_minutes is not None and wanted.capture_minutes not in allowed:
        choices = ", ".join(map(str, allowed))
        raise ValueError(f"capture period {wanted.capture_minutes} min: allowed are {choices}")
    known = [meter.id for meter in site.meters]
    unknown = [name for name in meters or () if name not in known]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no meter of {site.id}; meters: {', '.join(known)}")
    devices = {device.id: device for device in site.devices() if device.id in known}
    settable = [name for name in known if devices[name].connection.protocol == "dlms"]
    for name in meters or ():
        if name not in settable:
            raise ValueError(
                f"{name} speaks {devices[name].connection.protocol}: only meters that speak dlms can be set; "
                f"these are {', '.join(settable) or 'none'}"
            )
    if not settable:
        raise ValueError(f"{site.id} has no meter that speaks dlms; others cannot be set")
    return [devices[name] for name in (settable if meters is None else dict.fromkeys(meters))]


def _keep(
    db: TenantStore, site_id: str, outcomes: Sequence[ConfigureOutcome], wanted: WantedSettings, actor: str
) -> None:
    """Events of all meters, and the site's new version when capture periods changed, in one transaction."""
    from flexergy_pipelines.store.events import record_event
    from flexergy_pipelines.store.sites import load_site, save_site

    with db.begin():
        for outcome in outcomes:
            record_event(
                db, actor=actor, kind=CONFIGURED if outcome.success else FAILED, site_id=site_id,
                subject=outcome.meter, reason=outcome.error,
                detail={"attempts": outcome.attempts, "changes": [asdict(change) for change in outcome.changes]},
            )  # fmt: skip
        if wanted.capture_minutes is None:
            return
        taken = {o.meter for o in outcomes if o.success or any(c.setting == CAPTURE_PERIOD for c in o.changes)}
        site = load_site(db, site_id)
        updated = tuple(
            meter.model_copy(update={"integration_period_minutes": wanted.capture_minutes})
            if meter.id in taken
            else meter
            for meter in site.meters
        )
        if updated != site.meters:
            save_site(db, site.model_copy(update={"meters": updated}), actor=actor)


async def _configure_all(
    tasks: Sequence[_Task], sending: _Sending, progress: Callable[[ConfigureOutcome, int, int], None]
) -> list[ConfigureOutcome]:
    free = asyncio.Semaphore(sending.rules.parallel)
    done = 0

    async def one(task: _Task) -> ConfigureOutcome:
        nonlocal done
        async with free:
            outcome = await _configure_one(task, sending)
        done += 1
        progress(outcome, done, len(tasks))
        return outcome

    return list(await asyncio.gather(*(one(task) for task in tasks)))


async def _configure_one(task: _Task, sending: _Sending) -> ConfigureOutcome:
    """Try until the meter has the settings; a refusal is an answer, and not asked for again."""
    changes: dict[str, Change] = {}
    error, attempt = "", 0
    for attempt in range(1, sending.rules.attempts + 1):
        try:
            await _send(task, sending, changes)
        except MeterError as failure:
            error = f"{task.device.id}: {failure}"
            if isinstance(failure, MeterRefusal):
                break
            if attempt < sending.rules.attempts:
                await asyncio.sleep(sending.rules.pause_s * 2 ** (attempt - 1))
        else:
            return ConfigureOutcome(task.device.id, True, attempt, tuple(changes.values()))
    return ConfigureOutcome(task.device.id, False, attempt, tuple(changes.values()), error)


async def _send(task: _Task, sending: _Sending, changes: dict[str, Change]) -> None:
    """One try; `changes` gets what was changed the moment the meter took it, so that a later failure tells of it."""
    wanted, dry_run, now = sending.wanted, sending.dry_run, sending.now
    timeout_s = sending.rules.timeout_s
    async with DlmsClient(task.host, task.port, task.credentials, timeout_s=timeout_s, zone=task.zone) as meter:
        if wanted.clock:
            ahead_s = (await read_clock(meter) - now()).total_seconds()
            if abs(ahead_s) > CLOCK_TOLERANCE_S:
                if not dry_run:
                    await set_clock(meter, now(), task.zone)
                changes[CLOCK] = Change(CLOCK, ahead_s, 0.0)
                if not dry_run:
                    left_s = (await read_clock(meter) - now()).total_seconds()
                    changes[CLOCK] = Change(CLOCK, ahead_s, left_s)
                    if abs(left_s) > CLOCK_TOLERANCE_S:
                        raise MeterError(f"the clock was set and still is {left_s:+.1f} s off")
        if wanted.capture_minutes is not None:
            seconds = 60 * wanted.capture_minutes
            before = await read_capture_period(meter)
            if before != seconds:
                # Noted before the answer: when only that is lost, the next try finds the period changed already.
                changes[CAPTURE_PERIOD] = Change(CAPTURE_PERIOD, before / 60, seconds / 60)
                if not dry_run:
                    await _change_period(meter, seconds, changes)


async def _change_period(meter: DlmsClient, seconds: int, changes: dict[str, Change]) -> None:
    try:
        await set_capture_period(meter, seconds)
    except MeterRefusal:
        del changes[CAPTURE_PERIOD]
        raise
    after = await read_capture_period(meter)
    if after != seconds:
        del changes[CAPTURE_PERIOD]
        raise MeterRefusal(f"the capture period was set to {seconds} s and still is {after} s")
