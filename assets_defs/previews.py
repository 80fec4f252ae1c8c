"""Small pictures for the asset pages: PNG inside markdown, a few kilobytes each."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_IN, _ROW_IN, _DPI = 7.0, 1.7, 70
_BLUE, _ORANGE, _GREY = "#2563ab", "#d9772b", "#667080"


def forecast_preview(forecasts: Mapping[str, pl.DataFrame], zone: ZoneInfo) -> str:
    """Median and P10–P90 band of each forecast.

    Parameters
    ----------
    forecasts : mapping
        Name of the target with its unit → frame with ``time``, ``value``, ``p10``, ``p90``.
    zone : ZoneInfo
        Time zone of the axis.
    """
    figure, axes = _figure(len(forecasts), zone)
    for axis, (name, frame) in zip(axes, forecasts.items(), strict=True):
        times = _times(frame, zone)
        if {"p10", "p90"} <= set(frame.columns):
            axis.fill_between(times, _values(frame, "p10"), _values(frame, "p90"), color=_BLUE, alpha=0.2, lw=0)
        axis.plot(times, _values(frame, "value"), color=_BLUE, lw=1.2)
        _title(axis, name)
    return _markdown(figure, "Forecast with its P10–P90 band")


def plan_preview(values: pl.DataFrame, zone: ZoneInfo) -> str:
    """Powers, state of charge and import price of a plan.

    Parameters
    ----------
    values : polars.DataFrame
        Plan values ``asset_id, quantity, time, value``.
    zone : ZoneInfo
        Time zone of the axis.
    """
    power = values.filter(pl.col("quantity") == "active_power_kw")
    soc = values.filter(pl.col("quantity") == "soc")
    price = values.filter(pl.col("quantity") == "import_price_eur_per_kwh")
    figure, (top, middle, bottom) = _figure(3, zone)
    _lines(top, power, zone, step=True)
    _title(top, "expected power [kW]")
    _lines(middle, soc, zone, step=False)
    middle.set_ylim(0, 1)
    _title(middle, "state of charge [1]")
    _lines(bottom, price, zone, step=True)
    _title(bottom, "import price [EUR/kWh]")
    return _markdown(figure, "Plan")


def weather_preview(frame: pl.DataFrame, zone: ZoneInfo) -> str:
    """Irradiance, temperature and wind of a weather forecast."""
    rows = {
        "irradiance [W/m²]": "shortwave_radiation_w_m2",
        "temperature [°C]": "temperature_2m_c",
        "wind at 100 m [m/s]": "wind_speed_100m_ms",
    }
    figure, axes = _figure(len(rows), zone)
    for axis, (name, column) in zip(axes, rows.items(), strict=True):
        axis.plot(_times(frame, zone), _values(frame, column), color=_BLUE, lw=1.2)
        _title(axis, name)
    return _markdown(figure, "Weather forecast")


def _figure(rows: int, zone: ZoneInfo) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    # Figure without pyplot: pyplot keeps every figure alive and is not safe in the threads of a server.
    figure = Figure(figsize=(_WIDTH_IN, 0.3 + _ROW_IN * max(rows, 1)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(max(rows, 1), 1, sharex=True, squeeze=False)[:, 0])[:rows]
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=8)
        locator = axis.xaxis.get_major_locator()
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
        axis.xaxis_date(zone)
    return figure, axes


def _lines(axis: Axes, values: pl.DataFrame, zone: ZoneInfo, *, step: bool) -> None:
    for (asset,), rows in values.sort("asset_id", "time").group_by("asset_id", maintain_order=True):
        draw: Any = {"drawstyle": "steps-post"} if step else {}
        width = 1.8 if asset in {"pcc", "market"} else 1.0
        axis.plot(_times(rows, zone), _values(rows, "value"), lw=width, label=str(asset), **draw)
    if not values.is_empty():
        axis.legend(fontsize=7, ncols=6, loc="upper left", frameon=False)


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=8, loc="left", color=_GREY)


def _times(frame: pl.DataFrame, zone: ZoneInfo) -> list[Any]:
    return frame["time"].dt.convert_time_zone(zone.key).to_list()


def _values(frame: pl.DataFrame, column: str) -> Any:
    return frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _markdown(figure: Figure, text: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return f"![{text}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
