"""One value in a device's registers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flexergy_pipelines.grid.base import Model, Scale

RegisterType = Literal["bit", "int16", "uint16", "int32", "uint32", "float32", "int64", "uint64", "float64"]
WordOrder = Literal["big", "little"]
WIDTH: dict[str, int] = {
    "bit": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4, "float64": 4,
}  # fmt: skip
INTEGERS = frozenset({"int16", "uint16", "int32", "uint32", "int64", "uint64"})
BIT_TABLES = frozenset({"coil", "discrete"})


class TemplatePoint(Model):
    """One value in the register map.

    Attributes
    ----------
    address : int
        Zero-based register address of the device's first asset; asset i is at ``address + i * asset_stride``.
    scale : float
        Physical value = raw value x scale; negative where the device counts the other way.
    access : str
        "r" is read only, "w" write only, "rw" both; what is writable lies in the holding registers or coils.
    table : str
        ``holding`` or ``input`` registers; ``coil`` or ``discrete`` inputs hold type ``bit`` only.
    word_order : str
        The template's unless the point has one of its own; "big" puts the high word first.
    bit : int or None
        The value is this bit of the integer, 0 the least significant: yes or no; only read. Several points may be bits
        of one register.
    share_of_rating : bool
        The value is a share of the asset's rated power: kW = raw x scale x rated power.
    """

    quantity: str = Field(min_length=1)
    table: Literal["holding", "input", "coil", "discrete"]
    address: int = Field(ge=0, le=65535)
    type: RegisterType
    scale: Scale = 1.0
    access: Literal["r", "w", "rw"] = "r"
    word_order: WordOrder = "big"
    share_of_rating: bool = False
    bit: int | None = Field(default=None, ge=0, le=63)

    def for_rating(self, rated_kw: float) -> TemplatePoint:
        """The same point with a scale that leads to kW at an asset of this rated power."""
        if not self.share_of_rating:
            return self
        return self.model_copy(update={"scale": self.scale * rated_kw, "share_of_rating": False})

    @property
    def width(self) -> int:
        """Number of registers."""
        return WIDTH[self.type]

    @property
    def writable(self) -> bool:
        return "w" in self.access

    @model_validator(mode="after")
    def _writable_is_holding(self) -> TemplatePoint:
        if self.writable and self.table not in {"holding", "coil"}:
            raise ValueError(f"{self.quantity}: access {self.access} needs table holding or coil, not {self.table}")
        if self.bit is not None and self.writable:
            raise ValueError(f"{self.quantity}: a bit of a register is only read, access {self.access} is not allowed")
        if self.bit is not None and (self.type not in INTEGERS or self.bit >= 16 * self.width):
            raise ValueError(f"{self.quantity}: bit {self.bit} is none of type {self.type}")
        if (self.table in BIT_TABLES) != (self.type == "bit"):
            raise ValueError(f"{self.quantity}: type bit and tables coil and discrete go together, not {self.type}")
        return self
