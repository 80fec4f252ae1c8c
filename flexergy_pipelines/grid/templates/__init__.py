"""Device templates: register maps of field devices, and the codec that simulator and control loop share."""

from flexergy_pipelines.grid.templates.codec import decode, decode_unsigned32, encode, encode_unsigned32
from flexergy_pipelines.grid.templates.model import (
    DeviceTemplate,
    Schedule,
    TemplateError,
    load_template,
    template_names,
)
from flexergy_pipelines.grid.templates.point import TemplatePoint

__all__ = [
    "DeviceTemplate",
    "Schedule",
    "TemplateError",
    "TemplatePoint",
    "decode",
    "decode_unsigned32",
    "encode",
    "encode_unsigned32",
    "load_template",
    "template_names",
]
