"""How a device is reached: protocol, address, serial line, transport security, and its own names of the points."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from flexergy_pipelines.grid.base import Many, Model, Scale, Slug, known_zone

NetworkType = Literal["GPRS", "UMTS", "LTE", "IoT", "NB-IoT", "RF", "PLC", "serial", "ethernet"]
TLS_PROTOCOLS = frozenset({"modbus_tcp", "iec104", "iec61850", "ocpp16", "dlms", "talq"})
OBJECT_PROTOCOLS = frozenset({"iec104", "iec61850"})
UNITS = {"modbus_tcp": (0, 255), "modbus_rtu": (1, 247), "iec104": (0, 65_534)}
"""Lowest and highest unit id; 255 is what a Modbus TCP device without units behind it is called by."""
OTHER_UNITS = (0, 247)
LOAD_PROFILE = "1.0.99.1.0.255"
SHARED_PROTOCOLS = frozenset({"iec104", "modbus_tcp"})


class TlsFiles(Model):
    """Transport security of a link; file names are relative to `<home>/certificates`.

    Attributes
    ----------
    ca : str
        Certificates (PEM) of the authorities that the other side's certificate must come from.
    certificate, key : str or None
        Own certificate (with its chain) and private key, PEM; both or neither. Where the platform calls the device it
        is the client's certificate (mutual TLS); the central system of OCPP needs it as its server certificate.
    server_name : str or None
        Name or IP address that the device's certificate must carry; None means the connection's host.
    require_client_certificate : bool
        OCPP only: charge points must show a certificate of `ca` that carries their identity as common name
        (security profile 3).
    """

    ca: str = Field(min_length=1)
    certificate: str | None = Field(default=None, min_length=1)
    key: str | None = Field(default=None, min_length=1)
    server_name: str | None = Field(default=None, min_length=1)
    require_client_certificate: bool = False

    @model_validator(mode="after")
    def _pair(self) -> TlsFiles:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls: certificate and key go together, only one of them is given")
        return self


class SerialLine(Model):
    """A serial line (RS-485) on which Modbus RTU devices hang.

    Attributes
    ----------
    device : str
        Device file, such as ``/dev/ttyUSB0``.
    baud_rate : int
        Speed [bit/s].
    parity : str
        E even, O odd, N none (then two stop bits are usual).
    """

    device: str = Field(min_length=1)
    baud_rate: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] = 19200
    parity: Literal["E", "O", "N"] = "E"
    stop_bits: Literal[1, 2] = 1


class ObjectPoint(Model):
    """A point by the device's own name of it, where that does not follow from the template.

    Attributes
    ----------
    asset : str or None
        Asset behind the device; None where there is only one.
    read, write : str or None
        Object that shows the value, and object that takes the order. IEC 61850: ``LDevice/LN.DO`` as `flexergy field
        import-scl` prints them; IEC 60870-5-104: number of the information object.
    kind : str
        What the object holds: a number, yes or no (single), double point, an integer, a word of 32 bits, or a counter
        that is only told when it is asked for (IEC 60870-5-104, to read).
    select : bool
        IEC 60870-5-104 only: select before execute. IEC 61850 devices say themselves which control model they have.
    scale : float
        Value in the platform's unit = value of the object x scale (0.001 where the device shows W; negative where its
        sign is the other one).
    """

    asset: Slug | None = None
    quantity: str = Field(min_length=1)
    read: str | None = Field(default=None, min_length=1)
    write: str | None = Field(default=None, min_length=1)
    kind: Literal["analogue", "single", "double", "integer", "word", "counter"] = "analogue"
    select: bool = False
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _names_something(self) -> ObjectPoint:
        if self.read is None and self.write is None:
            raise ValueError(f"{self.quantity}: neither read nor write names an object")
        return self


class Connection(Model):
    """Address of a device.

    Attributes
    ----------
    unit_id : int
        Modbus: number of the unit; IEC 60870-5-104: common address.
    template : str
        Name of the register map (see `flexergy_pipelines.grid.templates`).
    timeout_s : float
        Longest wait for one answer [s].
    serial : SerialLine or None
        The line of a Modbus RTU device, which has no host and port.
    tls : TlsFiles or None
        Transport security; None means plain.
    objects : tuple of ObjectPoint
        The device's own names of points, instead of those that follow from the template (IEC 60870-5-104 and 61850).
    control : str
        IEC 60870-5-104 and the template's objects of IEC 61850: how orders are given, at once or select before
        operate, with normal or enhanced security.
    report : str or None
        IEC 61850 report control block to subscribe (``LDevice/LLN0.BR.name``); None: the template's buffered one.
    basic_auth : bool
        OCPP: charge points must log in with the key that `flexergy field charger-key` gave them (security profiles 1
        and 2).
    listen_port : int or None
        TALQ: port on which reports of the gateway are taken, on every address of this machine; None: it is polled.
    network_type : str
        What the link runs over, for the statistics of links.
    standby_link : bool
        Modbus TCP and IEC 60870-5-104: instances of the control loop that stand by read the device over links of their
        own. Only for devices that serve several masters at a time.
    time_zone : str or None
        DLMS: the zone (IANA name) of a meter that tells times without their deviation from UTC, where it is not the
        site's.
    load_profile : str or None
        DLMS: logical name of the load profile that is read; None: 1.0.99.1.0.255.
    profile_status : str or None
        DLMS: how the status words of the load profile are to be understood; None: they are not judged, because each
        companion standard has its own.
    """

    protocol: Literal["modbus_tcp", "modbus_rtu", "iec104", "iec61850", "ocpp16", "dlms", "talq"] = "modbus_tcp"
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=0, ge=0, le=65535)
    unit_id: int = Field(default=1, ge=0, le=65534)
    template: Slug
    timeout_s: float = Field(default=0.3, gt=0, le=60)
    serial: SerialLine | None = None
    tls: TlsFiles | None = None
    objects: Many[ObjectPoint] = ()
    control: Literal["direct", "select", "direct_enhanced", "select_enhanced"] = "direct"
    report: str | None = Field(default=None, min_length=1)
    basic_auth: bool = False
    listen_port: int | None = Field(default=None, ge=1, le=65535)
    network_type: NetworkType | None = None
    standby_link: bool = False
    time_zone: str | None = None
    load_profile: str | None = Field(default=None, pattern=r"^\d{1,3}(\.\d{1,3}){5}$")
    profile_status: Literal["idis", "ree"] | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return None if value is None else known_zone(value)

    @model_validator(mode="after")
    def _fits_protocol(self) -> Connection:
        if (self.protocol == "modbus_rtu") != (self.serial is not None):
            raise ValueError(f"connection: serial and protocol modbus_rtu go together, protocol is {self.protocol}")
        lowest, highest = UNITS.get(self.protocol, OTHER_UNITS)
        if not lowest <= self.unit_id <= highest:
            raise ValueError(
                f"connection: unit_id {self.unit_id} is outside {lowest}..{highest} of protocol {self.protocol}"
            )
        if self.protocol != "modbus_rtu" and not self.port:
            raise ValueError(f"connection: port is missing; {self.protocol} needs one of 1..65535")
        if self.tls is not None and self.protocol not in TLS_PROTOCOLS:
            raise ValueError(f"connection: no TLS over {self.protocol}, only over {', '.join(sorted(TLS_PROTOCOLS))}")
        if self.objects and self.protocol not in OBJECT_PROTOCOLS:
            allowed = " and ".join(sorted(OBJECT_PROTOCOLS))
            raise ValueError(f"connection: objects are for {allowed}, not {self.protocol}")
        if self.standby_link and self.protocol not in SHARED_PROTOCOLS:
            allowed = " and ".join(sorted(SHARED_PROTOCOLS))
            raise ValueError(f"connection: standby_link is for {allowed}, not {self.protocol}")
        if self.basic_auth and self.protocol != "ocpp16":
            raise ValueError(f"connection: basic_auth is for ocpp16, not {self.protocol}")
        of_meters = {
            "time_zone": self.time_zone,
            "load_profile": self.load_profile,
            "profile_status": self.profile_status,
        }
        given = [name for name, value in of_meters.items() if value not in {None, LOAD_PROFILE}]
        if given and self.protocol != "dlms":
            raise ValueError(f"connection: {given[0]} is for dlms, not {self.protocol}")
        return self

    def zone(self, site_zone: ZoneInfo) -> ZoneInfo:
        """Zone of a meter that tells times without deviation, at a site of `site_zone`."""
        return site_zone if self.time_zone is None else ZoneInfo(self.time_zone)

    @property
    def place(self) -> str:
        """The address in words; two devices of one site cannot have the same."""
        line = f"{self.host}:{self.port}" if self.serial is None else self.serial.device
        return f"{line} unit {self.unit_id}"
