"""The energy-flow picture: assets around a busbar, lines that run in the direction of power, as SVG."""

from __future__ import annotations

from html import escape

from dashboards.theme import colour_of
from dashboards.views.live import CONSUMING, Node
from dashboards.words import power

CARD_HEIGHT = 66
PERIOD_S = 1.2
"""Time in which a dash of a flow line runs one pattern length."""

ICONS: dict[str, str] = {
    "pcc": "M12 2 7 22M12 2l5 20M9 9h6M8 14h8M4 6h16M9 9l7 5M15 9l-7 5",
    "pv": "M4 17 7 6h10l3 11zM5.5 11.5h13M12 6v11M12 17v4M8 21h8",
    "wind": "M12 11v11M12 9 12 2M12 9l6 4M12 9l-6 4M9 22h6",
    "genset": "M3 8h12v9H3zM15 11h3l3 3v3h-6M6 8V5h4v3M6 12h6",
    "ess": "M3 7h16v10H3zM19 10h2v4h-2M7 10v4M11 10v4",
    "load": "M4 21V10l8-6 8 6v11zM10 21v-6h4v6",
    "controllable_load": "M12 2v20M4 7l16 10M20 7 4 17",
    "ev": "M4 15v-3l2-5h9l3 5v3zM7 18a1.6 1.6 0 1 0 0-3.2A1.6 1.6 0 0 0 7 18"
    "M15 18a1.6 1.6 0 1 0 0-3.2 1.6 1.6 0 0 0 0 3.2M21 4v8",
}


def _card(node: Node, x: float, y: float, width: float, stale: bool) -> str:
    colour = colour_of(node.kind)
    icon = ICONS.get(node.kind, "")
    faded = ' opacity="0.5"' if stale or node.power_kw is None else ""
    detail = f'<text x="{x + 42}" y="{y + 54}" class="fx-d">{escape(node.detail)}</text>' if node.detail else ""
    return (
        f"<g{faded}>"
        f'<rect x="{x}" y="{y}" width="{width}" height="{CARD_HEIGHT}" rx="10" class="fx-c" stroke="{colour}"/>'
        f'<path d="{icon}" transform="translate({x + 10},{y + 12})" fill="none" stroke="{colour}" stroke-width="1.7" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
        f'<text x="{x + 42}" y="{y + 18}" class="fx-n">{escape(node.asset_id)}</text>'
        f'<text x="{x + 42}" y="{y + 38}" class="fx-p">{escape(power(node.power_kw))}</text>{detail}</g>'
    )


def _flow(node: Node, points: str, largest_kw: float, phase_s: float, stale: bool) -> str:
    """The line between a card and the busbar; drawn from card to bus, running backwards when power leaves the bus."""
    colour = colour_of(node.kind)
    into = node.into_bus_kw
    if stale or into is None or abs(into) < 0.05:
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" opacity="0.28"/>'
    width = 2 + 4 * min(1.0, abs(into) / largest_kw)
    direction = "normal" if into > 0 else "reverse"
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:.1f}" opacity="0.28"/>'
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:.1f}" class="fx-f" '
        f'style="animation-direction:{direction};animation-delay:-{phase_s:.2f}s"/>'
    )


def synoptic(nodes: list[Node], *, busbar: str, clock_s: float, stale: bool, narrow: bool) -> str:
    """Draw the picture.

    Parameters
    ----------
    nodes : list of Node
        What to draw.
    busbar : str
        Name of the busbar, for readers of the picture's description.
    clock_s : float
        Seconds of any steady clock: keeps the dashes running on when the picture is drawn anew each second.
    stale : bool
        Draw faded and without movement, because the values are old.
    narrow : bool
        For a phone: busbar upright, one row a pair of assets.

    Returns
    -------
    str
        An ``<svg>`` element; every text in it is escaped.
    """
    largest = max([abs(n.into_bus_kw) for n in nodes if n.into_bus_kw is not None] + [1.0])
    phase = clock_s % PERIOD_S
    upper = [n for n in nodes if n.kind not in CONSUMING and n.kind != "ess"]
    lower = [n for n in nodes if n.kind == "ess" or n.kind in CONSUMING]
    parts: list[str] = []
    if narrow:
        width, height = 360.0, 86.0 * max(len(upper), len(lower), 1) + 26
        parts.append(f'<line x1="180" y1="18" x2="180" y2="{height - 8}" class="fx-b"/>')
        for side, group in ((0, upper), (1, lower)):
            for row, node in enumerate(group):
                y = 26 + 86.0 * row
                x = 2.0 if side == 0 else 206.0
                line = f"{x + 152 if side == 0 else x},{y + 34} 180,{y + 34}"
                parts.append(_flow(node, line, largest, phase, stale))
                parts.append(_card(node, x, y, 152, stale))
    else:
        columns = max(len(upper), len(lower), 1)
        width, height = max(columns * 178.0, 900.0), 300.0
        parts.append(f'<line x1="14" y1="150" x2="{width - 14}" y2="150" class="fx-b"/>')
        for group, y, edge in ((upper, 6.0, 72.0), (lower, 228.0, 228.0)):
            slot = width / max(len(group), 1)
            for place, node in enumerate(group):
                middle = slot * (place + 0.5)
                parts.append(_flow(node, f"{middle},{edge} {middle},150", largest, phase, stale))
                parts.append(_card(node, middle - 82, y, 164, stale))
    label = f"Energy flows at {busbar}: " + ", ".join(f"{n.asset_id} {power(n.power_kw)}" for n in nodes)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg" class="fx-s">{"".join(parts)}</svg>'
    )
