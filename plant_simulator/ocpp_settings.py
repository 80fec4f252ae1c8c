"""Settings of a simulated charge point: which there are, which may be changed, and to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

MEASURANDS = ("Power.Active.Import", "Energy.Active.Import.Register", "SoC")
LARGEST_LIST = 1000
"""Tags that the list of drivers holds."""

FIXED: Mapping[str, str] = MappingProxyType({
    "ChargeProfileMaxStackLevel": "9",
    "ChargingScheduleAllowedChargingRateUnit": "Current,Power",
    "ChargingScheduleMaxPeriods": "96",
    "ConnectorPhaseRotation": "NotApplicable",
    "ConnectorSwitch3to1PhaseSupported": "false",
    "GetConfigurationMaxKeys": "100",
    "LocalAuthListMaxLength": str(LARGEST_LIST),
    "LocalPreAuthorize": "false",
    "MaxChargingProfilesInstalled": "60",
    "NumberOfConnectors": "1",
    "ReserveConnectorZeroSupported": "false",
    "SendLocalListMaxLength": str(LARGEST_LIST),
    "StopTransactionOnEVSideDisconnect": "true",
    "StopTransactionOnInvalidId": "true",
    "SupportedFeatureProfiles":
        "Core,SmartCharging,RemoteTrigger,FirmwareManagement,LocalAuthListManagement,Reservation",
    "UnlockConnectorOnEVSideDisconnect": "true",
})  # fmt: skip
"""How it is made; nobody changes that."""


def _is_seconds(value: str) -> bool:
    return value.isdecimal() and int(value) < 2**31


def _is_flag(value: str) -> bool:
    return value.lower() in {"true", "false"}


def _is_measurands(value: str) -> bool:
    return all(word in MEASURANDS for word in words_of(value))


CHANGEABLE: Mapping[str, tuple[str, Callable[[str], bool]]] = MappingProxyType({
    "AuthorizeRemoteTxRequests": ("false", _is_flag),
    "ClockAlignedDataInterval": ("0", _is_seconds),
    "HeartbeatInterval": ("300", _is_seconds),
    "LocalAuthListEnabled": ("true", _is_flag),
    "LocalAuthorizeOffline": ("true", _is_flag),
    "MeterValueSampleInterval": ("10", _is_seconds),
    "MeterValuesAlignedData": (",".join(MEASURANDS), _is_measurands),
    "MeterValuesSampledData": (",".join(MEASURANDS), _is_measurands),
})  # fmt: skip
"""First value, and what is allowed."""


class Change(StrEnum):
    """What becomes of a change, as the protocol says it."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    NOT_SUPPORTED = "NotSupported"


class Settings:
    """Settings of one charge point."""

    def __init__(self) -> None:
        self._values = dict(FIXED) | {key: value for key, (value, _) in CHANGEABLE.items()}
        self._names = {key.lower(): key for key in self._values}

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def rows(self, keys: list[str] | None) -> tuple[list[dict[str, object]], list[str]]:
        """Settings in the protocol's words, all without `keys`, and keys that there are not; case does not matter."""
        wanted = [self._names.get(key.lower(), key) for key in keys] if keys else sorted(self._values)
        known = [
            {"key": key, "readonly": key in FIXED, "value": self._values[key]} for key in wanted if key in self._values
        ]
        return known, [key for key in wanted if key not in self._values]

    def change(self, key: str, value: str) -> Change:
        """Change a setting."""
        name = self._names.get(key.lower())
        if name is None:
            return Change.NOT_SUPPORTED
        if name in FIXED or not CHANGEABLE[name][1](value.strip()):
            return Change.REJECTED
        self._values[name] = value.strip()
        return Change.ACCEPTED

    def is_on(self, key: str) -> bool:
        """Whether a flag is set."""
        return self._values[key].lower() == "true"

    def seconds(self, key: str) -> int:
        """An interval [s]; 0 is never."""
        return int(self._values[key])

    def measurands(self, key: str) -> tuple[str, ...]:
        """What is measured."""
        return words_of(self._values[key])


def words_of(value: str) -> tuple[str, ...]:
    """Words of a list with commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip())
