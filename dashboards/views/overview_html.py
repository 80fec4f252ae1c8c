"""The live part of the overview as one piece of HTML, so that it changes in one stroke each second."""

from __future__ import annotations

from datetime import datetime
from html import escape

from dashboards.synoptic import synoptic
from dashboards.theme import GOOD, KIND_COLOURS, SEVERITY_COLOURS
from dashboards.views.live import Control, LiveImage, Totals, lapsed, layer_word, nodes, totals
from dashboards.words import (
    NO_VALUE,
    SETPOINT_WORDS,
    clock_time,
    duration,
    percent,
    plain,
    power,
    reactive_power,
    zone_label,
)
from flexergy_pipelines.grid import Site

CSS = """
<style>
.fx-tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:.7rem;margin:.2rem 0 .9rem}
.fx-tile{border:1px solid color-mix(in srgb,currentColor 16%,transparent);border-radius:.8rem;padding:.75rem .9rem;
 background:color-mix(in srgb,currentColor 3.5%,transparent)}
.fx-tile h4{font-size:.78rem;font-weight:600;letter-spacing:.02em;margin:0;padding:0;opacity:.75}
.fx-big{font-size:1.75rem;font-weight:700;line-height:1.25;font-variant-numeric:tabular-nums}
.fx-sub{font-size:.8rem;opacity:.78;font-variant-numeric:tabular-nums}
.fx-bar{position:relative;height:.62rem;border-radius:.4rem;margin:.4rem 0 .3rem;
 background:color-mix(in srgb,currentColor 12%,transparent)}
.fx-fill{position:absolute;top:0;bottom:0;border-radius:.4rem;transition:width .6s linear,left .6s linear}
.fx-mark{position:absolute;top:-.18rem;bottom:-.18rem;width:2px;background:currentColor;opacity:.55}
.fx-dense{grid-template-columns:repeat(auto-fit,minmax(165px,1fr))}.fx-dense .fx-big{font-size:1.35rem}
.fx-strip{display:flex;flex-wrap:wrap;gap:.4rem .9rem;align-items:center;font-size:.86rem;margin-bottom:.7rem}
.fx-pill{display:inline-flex;align-items:center;gap:.4rem;border-radius:1rem;padding:.12rem .65rem;font-weight:600;
 border:1px solid color-mix(in srgb,currentColor 22%,transparent)}
.fx-dot{width:.55rem;height:.55rem;border-radius:50%}
.fx-s{width:100%;height:auto;max-height:360px;display:block;margin-bottom:.8rem}
.fx-s text{fill:currentColor;font-family:inherit}
.fx-n{font-size:12px;opacity:.75}.fx-p{font-size:17px;font-weight:700;font-variant-numeric:tabular-nums}
.fx-d{font-size:11.5px;opacity:.75}
.fx-c{fill:color-mix(in srgb,currentColor 3.5%,transparent);stroke-width:1.4}
.fx-b{stroke:currentColor;stroke-width:5;stroke-linecap:round;opacity:.6}
.fx-f{stroke-dasharray:5 13;stroke-linecap:round;animation:fx-run 1.2s linear infinite}
@keyframes fx-run{from{stroke-dashoffset:18}to{stroke-dashoffset:0}}
@media(prefers-reduced-motion:reduce){.fx-f{animation:none}}
.fx-table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
.fx-table th{text-align:left;font-weight:600;opacity:.7;font-size:.78rem}
.fx-table td,.fx-table th{padding:.3rem .6rem .3rem 0;vertical-align:top;
 border-bottom:1px solid color-mix(in srgb,currentColor 14%,transparent)}
.fx-nw{white-space:nowrap}.fx-scroll{overflow-x:auto}
.fx-late{max-height:0;overflow:hidden;border-radius:.5rem;background:#C9252F;color:#fff;font-weight:600;padding:0 .8rem}
.fx-late-0{animation:fx-late0 .01s 6s forwards}.fx-late-1{animation:fx-late1 .01s 6s forwards}
@keyframes fx-late0{to{max-height:6rem;padding:.4rem .8rem}}@keyframes fx-late1{to{max-height:6rem;padding:.4rem .8rem}}
.fx-fresh-0{animation:fx-old0 .01s 6s forwards}.fx-fresh-1{animation:fx-old1 .01s 6s forwards}
@keyframes fx-old0{to{opacity:.25;text-decoration:line-through}}
@keyframes fx-old1{to{opacity:.25;text-decoration:line-through}}
.fx-narrow{display:none}
@media(max-width:640px){.fx-cards,.fx-cards tbody,.fx-cards tr,.fx-cards td{display:block}
 .fx-cards tr:first-child{display:none}
 .fx-cards tr{border-bottom:1px solid color-mix(in srgb,currentColor 22%,transparent);padding:.45rem 0}
 .fx-cards td{border:0;padding:.08rem 0;white-space:normal;display:grid;grid-template-columns:6.8rem 1fr;
 overflow-wrap:anywhere}.fx-cards td:empty{display:none}
 .fx-cards td::before{content:attr(data-of);opacity:.7;font-size:.78rem}
 .fx-wide{display:none}.fx-narrow{display:block}.fx-s{max-height:none}
 .fx-tiles,.fx-dense{grid-template-columns:1fr 1fr;gap:.5rem}.fx-tile{padding:.6rem .65rem}.fx-big{font-size:1.35rem}}
.st-key-estop button,.st-key-estop_go button[kind="primary"]{
 background:#C9252F!important;border-color:#C9252F!important;color:#fff!important}
</style>
"""


def strip(
    site: Site, image: LiveImage, control: tuple[str, str] | None, now: datetime, turn: int = 0, *, mode: str = "Plan"
) -> str:
    """One line: fresh or stale, the time in the site's zone, the mode in force, who is in control.

    A server that hangs cannot say so. So the warning is sent ahead, and the browser shows it by itself 6 s later unless
    a new picture came: each `turn` names another animation, which starts the wait anew.
    """
    age = image.age_s(now)
    stale = image.is_stale(now)
    colour = SEVERITY_COLOURS[1] if stale else GOOD
    if age is None:
        word = "No live values yet"
    elif stale:
        word = f"Stale: last value {duration(age)} ago"
    else:
        word = f"Live, {age:.0f} s old"
    layer = "Control: <b>nobody</b> (no setpoint in force)"
    if control:
        why = escape(" ".join(control[1].split()))  # a reason with an empty line must not end the block of HTML
        layer = f"Control: <b>{escape(control[0])}</b>" + (f" ({why})" if why else "")
    return (
        f'<div class="fx-late fx-late-{turn % 2}">'
        "No news from the server for some seconds: what stands here is old.</div>"
        f'<div class="fx-strip"><span class="fx-pill fx-fresh-{turn % 2}" data-testid="live-state">'
        '<span class="fx-dot" '
        f'style="background:{colour}"></span>{escape(word)}</span>'
        f'<span data-testid="site-time"><b>{clock_time(now, site.zone)}</b> {escape(zone_label(now, site.zone))}</span>'
        f'<span data-testid="mode">Mode: <b>{escape(mode)}</b></span>'
        f'<span data-testid="control-layer">{layer}</span></div>'
    )


def tile(title: str, big: str, sub: str, body: str = "", testid: str = "") -> str:
    """One figure: title, value in large letters, a bar or the like, a line below."""
    hook = f' data-testid="{testid}"' if testid else ""
    return (
        f'<div class="fx-tile"><h4>{escape(title)}</h4><div class="fx-big"{hook}>{escape(big)}</div>{body}'
        f'<div class="fx-sub">{escape(sub)}</div></div>'
    )


def soc_tile(site: Site, sums: Totals) -> str:
    """State of charge with its bar, the allowed band marked."""
    stores = site.ess()
    if not stores:
        return ""
    capacity = sum(ess.energy_capacity_kwh for ess in stores)
    low = sum(ess.soc_min * ess.energy_capacity_kwh for ess in stores) / capacity
    high = sum(ess.soc_max * ess.energy_capacity_kwh for ess in stores) / capacity
    fill = 0.0 if sums.soc is None else min(max(sums.soc, 0.0), 1.0)
    bar = (
        '<div class="fx-bar">'
        f'<div class="fx-fill" style="left:0;width:{fill:.2%};background:{KIND_COLOURS["ess"]}"></div>'
        f'<div class="fx-mark" style="left:{low:.1%}"></div><div class="fx-mark" style="left:{high:.1%}"></div></div>'
    )
    doing = NO_VALUE
    if sums.storage_kw is not None:
        verb = "discharging" if sums.storage_kw > 0.05 else "charging" if sums.storage_kw < -0.05 else "resting"
        doing = verb if verb == "resting" else f"{verb} {power(abs(sums.storage_kw))}"
    shown = percent(sums.soc, 2)
    return tile("State of charge", shown, f"{doing} · allowed {low * 100:.0f}–{high:.0%}", bar, "live-soc")


def grid_tile(site: Site, sums: Totals) -> str:
    """Power at the grid connection against its import and export limits."""
    pcc = site.grid_connection
    value = sums.grid_kw
    body, sub = "", "no reading"
    if value is not None:
        limit = pcc.import_limit_kw if value >= 0 else pcc.export_limit_kw
        used = min(abs(value) / limit, 1.0) if limit > 0 else 1.0
        colour = SEVERITY_COLOURS[1] if used >= 1.0 else SEVERITY_COLOURS[2] if used > 0.9 else KIND_COLOURS["pcc"]
        left = 0.5 if value >= 0 else 0.5 - used / 2
        body = (
            '<div class="fx-bar">'
            f'<div class="fx-fill" style="left:{left:.2%};width:{used / 2:.2%};background:{colour}"></div>'
            '<div class="fx-mark" style="left:50%"></div></div>'
        )
        verb = "import" if value >= 0 else "export"
        sub = f"{verb}, {used:.0%} of {power(limit)} allowed" if limit > 0 else f"{verb}, none is allowed"
    return tile("Grid connection", power(value), sub, body, "live-pcc")


def live_html(
    site: Site, image: LiveImage, control: tuple[str, str] | None, now: datetime, turn: int = 0, *, mode: str = "Plan"
) -> str:
    """Everything that changes each second; `turn` counts the pictures, `mode` is the one in force."""
    sums = totals(site, image)
    stale = image.is_stale(now)
    green = sum(1 for asset in site.assets() if asset.kind in {"pv", "wind"})
    share = ""
    if sums.renewables_kw is not None and sums.demand_kw is not None and sums.demand_kw > 0:
        share = f"{percent(min(sums.renewables_kw / sums.demand_kw, 9.99), 0)} of demand"
    tiles = [
        soc_tile(site, sums),
        grid_tile(site, sums),
        tile("Renewables", power(sums.renewables_kw), share or f"{green} plants", testid="live-renewables")
        if green
        else "",
        tile("Demand", power(sums.demand_kw), "loads and EV charging", testid="live-demand"),
    ]
    drawn = nodes(site, image)
    clock_s = now.timestamp()
    wide = synoptic(drawn, busbar=site.name, clock_s=clock_s, stale=stale, narrow=False)
    narrow = synoptic(drawn, busbar=site.name, clock_s=clock_s, stale=stale, narrow=True)
    return (
        strip(site, image, control, now, turn, mode=mode)
        + f'<div class="fx-tiles">{"".join(tiles)}</div>'
        + f'<div class="fx-wide">{wide}</div><div class="fx-narrow">{narrow}</div>'
    )


def control_html(rows: list[Control], site: Site, now: datetime) -> str:
    """Which layer commands each actuator, with which value, why, and until when."""
    lines = []
    for row in rows:
        over = lapsed(row, now)
        until = clock_time(row.valid_until, site.zone) if row.valid_until else "open"
        shown = reactive_power if row.quantity.endswith("_kvar") else power
        answered = shown(row.readback) if row.readback is not None else "no answer"
        what = SETPOINT_WORDS.get(row.quantity, plain(row.quantity))
        lines.append(
            f"<tr{' style=opacity:.5' if over else ''}><td class=fx-nw><b>{escape(row.asset_id)}</b>"
            f"<br><span class='fx-sub'>{escape(what)}</span></td>"
            f"<td class=fx-nw>{escape(shown(row.sent))}</td><td class=fx-nw>{escape(answered)}</td>"
            f"<td>{escape(layer_word(row.layer))}<br><span class='fx-sub'>{escape(row.reason)}</span></td>"
            f"<td>{'lapsed ' if over else ''}{until}</td></tr>"
        )
    heads = "".join(f"<th>{name}</th>" for name in ("asset", "sent", "read back", "by whom and why", "until"))
    return f"<table class='fx-table'><tr>{heads}</tr>{''.join(lines)}</table>"
