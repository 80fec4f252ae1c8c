"""A DLMS/COSEM meter's objects: registers, clock and load profile, as a meter of the plant shows them.

| object | class | what |
| --- | --- | --- |
| 0-0:1.0.0 | clock | site's local time with deviation; can be set |
| 0-0:42.0.0, 0-0:96.1.0 | data | logical device name, serial number |
| 0-0:43.1.0 | data | highest invocation counter received (readable without a key) |
| 1-0:1.7.0, 1-0:2.7.0, 1-0:16.7.0 | register | active power imported, exported, and their difference [W] |
| 1-0:3.7.0, 1-0:14.7.0, 1-0:32.7.0, 1-0:52.7.0, 1-0:72.7.0 | register | reactive power, frequency, phase voltages |
| 1-0:1.8.0, 1-0:2.8.0 | register | energy imported and exported [Wh] |
| 1-0:21.7.0 … 1-0:24.7.0, and +20, +40 | register | per phase: power imported, exported [W], reactive likewise [var] |
| 1-0:99.1.0 | profile | one row for each of the meter's integration periods; the period can be set |

A row of the profile is the stamp of its period's *end*, a status, and the energy imported and exported in it [Wh]
(increments 1-0:1.29.0 and 1-0:2.29.0). Setting another period empties the profile, as the class demands.

References
----------
DLMS UA, "COSEM interface classes and OBIS identification system" (Blue Book), classes 1, 3, 7 and 8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dlms_cosem import dlms_data
from dlms_cosem import time as dlms_time

from flexergy_pipelines.grid import Device
from plant_simulator.dlms_selection import EntryRange, TimeRange, chosen, columns_of, moment_of
from plant_simulator.faults import Fault
from plant_simulator.phases import PHASE_SHARES
from plant_simulator.plant import Plant
from plant_simulator.signals import DeviceSignals

DATA, REGISTER, PROFILE, CLOCK = 1, 3, 7, 8
WATT, VAR, WATT_HOUR, VOLT, HERTZ = 27, 29, 30, 35, 44
PROFILE_DAYS = 35
CLOCK_OBIS, COUNTER_OBIS, PROFILE_OBIS = "0.0.1.0.0.255", "0.0.43.1.0.255", "1.0.99.1.0.255"
LOGICAL_NAME_OBIS = "0.0.42.0.0.255"
SERIAL_OBIS, ASSOCIATION_OBIS = "0.0.96.1.0.255", "0.0.40.0.0.255"
ASSOCIATION = 15
INTERVAL_IMPORT_OBIS, INTERVAL_EXPORT_OBIS = "1.0.1.29.0.255", "1.0.2.29.0.255"
STATUS_OBIS = "0.0.96.10.1.255"
COLUMNS = (
    (CLOCK, CLOCK_OBIS),
    (DATA, STATUS_OBIS),
    (REGISTER, INTERVAL_IMPORT_OBIS),
    (REGISTER, INTERVAL_EXPORT_OBIS),
)
PUBLIC = {CLOCK_OBIS, COUNTER_OBIS, LOGICAL_NAME_OBIS}
"""Objects that anybody may read."""
LOGICAL_NAME, SINGLE_VALUE, SCALER_UNIT, CAPTURE_PERIOD = 1, 2, 3, 4
SUMMER_TIME = 0x80
"""Bit of the clock's status."""
CAPTURE_MINUTES = (1, 5, 10, 15, 30, 60)
LEAST_POWER = 1e-6
"""Power that counts as none [kW, kvar]."""


class NoValueError(LookupError):
    """The object is there, but has no value now."""


@dataclass(frozen=True, slots=True)
class _Register:
    """An instantaneous value or counter: `factor` times the quantity in the platform's unit, at 10^scaler of `unit`.

    With a `phase` (0 to 2) it is what the quantity has on that phase.
    """

    quantity: str
    unit: int
    scaler: int
    factor: float
    part: str = "all"
    phase: int | None = None


PHASE_POWERS = (
    ("active_power_kw", WATT, "positive"),
    ("active_power_kw", WATT, "negative"),
    ("reactive_power_kvar", VAR, "positive"),
    ("reactive_power_kvar", VAR, "negative"),
)
REGISTERS = {
    "1.0.1.7.0.255": _Register("active_power_kw", WATT, 0, 1000.0, "positive"),
    "1.0.2.7.0.255": _Register("active_power_kw", WATT, 0, 1000.0, "negative"),
    "1.0.16.7.0.255": _Register("active_power_kw", WATT, 0, 1000.0),
    "1.0.3.7.0.255": _Register("reactive_power_kvar", VAR, 0, 1000.0),
    "1.0.14.7.0.255": _Register("frequency_hz", HERTZ, -3, 1000.0),
    "1.0.32.7.0.255": _Register("voltage_l1_v", VOLT, -1, 10.0),
    "1.0.52.7.0.255": _Register("voltage_l2_v", VOLT, -1, 10.0),
    "1.0.72.7.0.255": _Register("voltage_l3_v", VOLT, -1, 10.0),
    "1.0.1.8.0.255": _Register("import_energy_kwh", WATT_HOUR, 0, 1000.0),
    "1.0.2.8.0.255": _Register("export_energy_kwh", WATT_HOUR, 0, 1000.0),
}

for _phase in range(len(PHASE_SHARES)):
    for _offset, (_quantity, _unit, _part) in enumerate(PHASE_POWERS, start=1):
        REGISTERS[f"1.0.{20 * (_phase + 1) + _offset}.7.0.255"] = _Register(_quantity, _unit, 0, 1000.0, _part, _phase)


@dataclass(frozen=True, slots=True)
class Interval:
    """One entry of the load profile; `end` is its stamp."""

    end: datetime
    import_wh: int
    export_wh: int


class DlmsMeter:
    """A meter's objects.

    Parameters
    ----------
    device : Device
        A meter of the plant's site.
    plant : Plant
        The plant it measures.
    seed : int
        Seed of the spikes.

    Attributes
    ----------
    general_protection : bool
        Whether it takes messages that are enciphered under the general tag; older meters want one for each service.
    """

    def __init__(self, device: Device, plant: Plant, seed: int = 0) -> None:
        self.device = device
        self.plant = plant
        self.signals = DeviceSignals(device, plant, seed)
        self.client_counter = 0
        self.general_protection = True
        meter = next((meter for meter in plant.site.meters if meter.id == device.id), None)
        self.period = timedelta(minutes=15 if meter is None else meter.integration_period_minutes)
        self.profile: deque[Interval] = deque(maxlen=timedelta(days=PROFILE_DAYS) // self.period)
        self._clock_set: tuple[Fault | None, timedelta] = (None, timedelta())
        self._begun = self._floor(plant.clock.now())
        self._fill_past()
        self._shares = self._shares_now()
        self._counters_kwh: tuple[float, float] | None = None  # as of the first refresh: the plant may remember some

    @property
    def serial(self) -> str:
        """Serial number; also the name of the logical device."""
        return f"FLX{sum(map(ord, self.device.key)) % 10_000:04d}{self.device.id[:8]}"

    @property
    def system_title(self) -> bytes:
        """Eight bytes that name the meter in ciphered messages."""
        return self.serial.encode().ljust(8, b"0")[:8]

    def refresh(self) -> None:
        """Show the plant's present values, and close the interval that has ended."""
        self.signals.refresh()
        if not self.signals.has_fault("frozen"):
            self._shares = self._shares_now()
        begun = self._floor(self.plant.clock.now())
        if self._counters_kwh is None:
            self._counters_kwh = self._read_counters()
        if begun > self._begun:
            counters = self._read_counters()
            moved = [max(0.0, now - before) for now, before in zip(counters, self._counters_kwh, strict=True)]
            self.profile.append(Interval(begun, round(1000 * moved[0]), round(1000 * moved[1])))
            self._begun, self._counters_kwh = begun, counters

    def read(self, obis: str, attribute: int, selection: TimeRange | EntryRange | None = None) -> bytes:
        """Value of an attribute in the protocol's encoding.

        Parameters
        ----------
        selection : TimeRange or EntryRange, optional
            Which entries of the profile.

        Raises
        ------
        KeyError
            There is no such object or attribute.
        NoValueError
            It has no value now.
        """
        if attribute == LOGICAL_NAME and self._has(obis):
            return _octets(bytes(int(group) for group in obis.split(".")))
        if obis == CLOCK_OBIS and attribute != SINGLE_VALUE:
            return self._read_clock(attribute)
        if obis in REGISTERS:
            return self._read_register(REGISTERS[obis], attribute)
        if obis == PROFILE_OBIS:
            return self._read_profile(attribute, selection)
        values: dict[str, Callable[[], bytes]] = {
            CLOCK_OBIS: lambda: _octets(self._stamp(self.plant.clock.now())),
            LOGICAL_NAME_OBIS: lambda: _octets(self.serial.encode()),
            SERIAL_OBIS: lambda: _octets(self.serial.encode()),
            ASSOCIATION_OBIS: self._object_list,
            COUNTER_OBIS: lambda: dlms_data.DoubleLongUnsignedData(self.client_counter).to_bytes(),
        }
        if attribute != SINGLE_VALUE or obis not in values:
            raise KeyError(f"{obis} attribute {attribute}")
        return values[obis]()

    def write(self, obis: str, attribute: int, value: object) -> None:
        """Set the clock or the profile's period.

        Raises
        ------
        KeyError
            There is no such attribute that can be set.
        TypeError
            The value is not of the attribute's type.
        ValueError
            The meter does not take this value.
        """
        settings = {(CLOCK_OBIS, SINGLE_VALUE): self._set_clock, (PROFILE_OBIS, CAPTURE_PERIOD): self._set_period}
        if (obis, attribute) not in settings:
            raise KeyError(f"{obis} attribute {attribute}")
        if not self.signals.has_fault("ack_without_effect"):
            settings[obis, attribute](value)

    def _set_clock(self, value: object) -> None:
        if not isinstance(value, bytes | bytearray) or len(value) != 12:
            raise TypeError("a date and time of 12 bytes")
        shown = moment_of(bytes(value), self.plant.site.zone)
        self._clock_set = (self._skew(), shown - self.plant.clock.now())

    def _set_period(self, value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError("a number of seconds")
        if value not in {60 * minutes for minutes in CAPTURE_MINUTES}:
            raise ValueError(f"{value} s")
        period = timedelta(seconds=value)
        if period == self.period:
            return
        self.period = period
        self.profile = deque(maxlen=timedelta(days=PROFILE_DAYS) // period)
        self._begun, self._counters_kwh = self._floor(self.plant.clock.now()), self._read_counters()

    def _skew(self) -> Fault | None:
        return self.plant.faults.find(self.device.key, "clock_skew")

    def _clock_offset(self) -> timedelta:
        """How far the clock is ahead; one that was set runs on from there until its fault comes or goes."""
        fault = self._skew()
        if fault is self._clock_set[0]:
            return self._clock_set[1]
        self._clock_set = (fault, timedelta(seconds=0.0 if fault is None else fault.value))
        return self._clock_set[1]

    def _object_list(self) -> bytes:
        """Class, version and logical name of every object; access rights are not told."""
        shown = [(REGISTER, name) for name, register in REGISTERS.items() if self.plant_shows(register.quantity)]
        shown += [(CLOCK, CLOCK_OBIS), (DATA, LOGICAL_NAME_OBIS), (DATA, SERIAL_OBIS), (DATA, COUNTER_OBIS)]
        shown += [(PROFILE, PROFILE_OBIS), (ASSOCIATION, ASSOCIATION_OBIS)]
        return b"\x01" + _length(len(shown)) + b"".join(_listed(*item) for item in shown)

    def plant_shows(self, quantity: str) -> bool:
        """Whether the meter has a value of the quantity."""
        return any(signal.point.quantity == quantity for signal in self.signals.signals)

    def _read_register(self, register: _Register, attribute: int) -> bytes:
        if attribute == SCALER_UNIT:
            return _structure(dlms_data.IntegerData(register.scaler), dlms_data.EnumData(register.unit))
        if attribute != SINGLE_VALUE:
            raise KeyError(f"attribute {attribute}")
        value = self._value(register.quantity)
        if register.phase is not None:
            value *= self._shares.get((register.quantity, register.phase), PHASE_SHARES[register.phase])
        if register.part != "all":
            value = max(0.0, value if register.part == "positive" else -value)
        return dlms_data.DoubleLongData(round(register.factor * value)).to_bytes()

    def _has(self, obis: str) -> bool:
        return obis in {*REGISTERS, PROFILE_OBIS, CLOCK_OBIS, LOGICAL_NAME_OBIS, SERIAL_OBIS, ASSOCIATION_OBIS,
                        COUNTER_OBIS}  # fmt: skip

    def _read_clock(self, attribute: int) -> bytes:
        """Deviation of the zone from UTC [min, positive to the west], status, whether summer time is kept."""
        local = (self.plant.clock.now() + self._clock_offset()).astimezone(self.plant.site.zone)
        summer = local.dst() or timedelta()
        match attribute:
            case 3:
                standard = (local.utcoffset() or timedelta()) - summer
                return dlms_data.LongData(-int(standard.total_seconds() // 60)).to_bytes()
            case 4:
                return dlms_data.UnsignedIntegerData(SUMMER_TIME if summer else 0).to_bytes()
            case 8:
                return dlms_data.BooleanData(True).to_bytes()
            case _:
                raise KeyError(f"{CLOCK_OBIS} attribute {attribute}")

    def _read_profile(self, attribute: int, selection: TimeRange | EntryRange | None) -> bytes:
        if attribute == 2:
            rows = chosen(selection, self.profile, self.plant.site.zone)
            places = columns_of(selection, [name for _, name in COLUMNS])
            return b"\x01" + _length(len(rows)) + b"".join(self._row(row, places) for row in rows)
        if attribute == 3:
            return b"\x01" + _length(len(COLUMNS)) + b"".join(_column(*column) for column in COLUMNS)
        counts = {4: int(self.period.total_seconds()), 5: 1, 7: len(self.profile), 8: self.profile.maxlen or 0}
        if attribute == 5:
            return dlms_data.EnumData(counts[attribute]).to_bytes()
        return dlms_data.DoubleLongUnsignedData(counts[attribute]).to_bytes()

    def _row(self, interval: Interval, places: Sequence[int]) -> bytes:
        cells = [
            _octets(self._stamp(interval.end)),
            dlms_data.UnsignedIntegerData(0).to_bytes(),
            dlms_data.DoubleLongUnsignedData(interval.import_wh).to_bytes(),
            dlms_data.DoubleLongUnsignedData(interval.export_wh).to_bytes(),
        ]
        return b"\x02" + _length(len(places)) + b"".join(cells[place] for place in places)

    def _stamp(self, time: datetime) -> bytes:
        local = (time + self._clock_offset()).astimezone(self.plant.site.zone)
        summer = bool(local.dst())
        return dlms_time.datetime_to_bytes(local, dlms_time.ClockStatus(daylight_saving_active=summer))

    def _value(self, quantity: str) -> float:
        for signal, value in zip(self.signals.signals, self.signals.values, strict=True):
            if signal.point.quantity == quantity:
                if value is None:
                    raise NoValueError(quantity)
                return value
        raise KeyError(quantity)

    def _shares_now(self) -> dict[tuple[str, int], float]:
        """Part of active and reactive power that each phase has; while there is hardly any, as loads usually spread."""
        shares: dict[tuple[str, int], float] = {}
        for asset in self.device.assets[:1]:
            for quantity in ("active_power_kw", "reactive_power_kvar"):
                whole = self.plant.measure(asset.id, quantity) if self.plant.measures(asset.id, quantity) else 0.0
                for phase, usual in enumerate(PHASE_SHARES):
                    own = quantity.replace("_power_", f"_power_l{phase + 1}_")
                    known = abs(whole) > LEAST_POWER and self.plant.measures(asset.id, own)
                    shares[quantity, phase] = self.plant.measure(asset.id, own) / whole if known else usual
        return shares

    def _read_counters(self) -> tuple[float, float]:
        if not self.device.assets:
            return 0.0, 0.0
        asset_id = self.device.assets[0].id
        return (
            self.plant.measure(asset_id, "import_energy_kwh"),
            self.plant.measure(asset_id, "export_energy_kwh"),
        )

    def _fill_past(self) -> None:
        """The last weeks as the series tell them; a grid connection as if storage and gensets had been at rest."""
        hours = self.period / timedelta(hours=1)
        for asset in self.device.assets[:1]:
            for number in range(self.profile.maxlen or 0, 0, -1):
                end = self._begun - (number - 1) * self.period
                power_kw = self.plant.uncontrolled_kw(asset.id, end - self.period / 2)
                energy_wh = round(1000.0 * hours * power_kw)
                self.profile.append(Interval(end, max(0, energy_wh), max(0, -energy_wh)))

    def _floor(self, time: datetime) -> datetime:
        minutes = int(self.period.total_seconds() // 60)
        return time.replace(minute=time.minute // minutes * minutes, second=0, microsecond=0)


def _length(number: int) -> bytes:
    return bytes(dlms_data.encode_variable_integer(number))


def _octets(content: bytes) -> bytes:
    return b"\x09" + _length(len(content)) + content


def _structure(*items: dlms_data.BaseDlmsData) -> bytes:
    return b"\x02" + _length(len(items)) + b"".join(item.to_bytes() for item in items)


def _listed(interface: int, obis: str) -> bytes:
    return (
        b"\x02\x04"
        + dlms_data.UnsignedLongData(interface).to_bytes()
        + dlms_data.UnsignedIntegerData(0).to_bytes()
        + _octets(bytes(int(group) for group in obis.split(".")))
        + b"\x02\x02\x01\x00\x01\x00"
    )


def _column(interface: int, obis: str) -> bytes:
    return (
        b"\x02\x04"
        + dlms_data.UnsignedLongData(interface).to_bytes()
        + _octets(bytes(int(group) for group in obis.split(".")))
        + dlms_data.IntegerData(SINGLE_VALUE).to_bytes()
        + dlms_data.UnsignedLongData(0).to_bytes()
    )
