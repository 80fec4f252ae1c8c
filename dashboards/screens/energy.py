"""Energy of every asset over any period, by quarter of an hour, hour, day or month of the site's own calendar."""

from __future__ import annotations

from datetime import date

import polars as pl
import streamlit as st

from dashboards.charts.history import energy_chart
from dashboards.session import PageContext
from dashboards.views.history import ENERGY_STEPS, energy_lines, energy_totals
from dashboards.views.quality import day_bounds
from dashboards.widgets import empty, text_table
from flexergy_pipelines.metering import energy_per

MOST_BARS = 800


def energy_of_period(context: PageContext, first: date, last: date) -> None:
    """Draw energy of the days `first` to `last`.

    Parameters
    ----------
    context : PageContext
        User, site, time.
    first, last : date
        Both included.
    """
    zone = context.site.zone
    assets = [asset.id for asset in context.site.assets()]
    left, right = st.columns([2, 1])
    chosen = left.multiselect(
        "Assets", assets, default=[a for a in assets if a == "pcc"] or assets[:1], key="en_assets"
    )
    days = (last - first).days + 1
    fitting = [word for word, step in ENERGY_STEPS.items() if days * step.bars_a_day * 2 <= MOST_BARS or step.longest]
    word = right.selectbox("Sum over", fitting, index=0, key=f"en_step_{len(fitting)}")
    if not chosen:
        empty("Choose at least one asset.", "")
        return
    start, end = day_bounds(first, zone)[0], day_bounds(last, zone)[1]
    energy = context.data.energy(start, end, chosen)
    if energy.drop_nulls("forward_kwh").is_empty():
        empty("No energy was counted in this period yet.", "It is counted with each cleansing, every hour.")
        return
    step = ENERGY_STEPS[word]
    sums = energy_per(energy, step.every, context.site.time_zone)
    st.altair_chart(energy_chart(energy_lines(sums, context.site), zone, step.label), width="stretch")
    text_table(energy_totals(energy, context.site), unbroken=["asset"], cards=True)
    st.download_button(
        "Download as CSV",
        sums.with_columns(pl.col("time").dt.convert_time_zone(zone.key)).write_csv(
            datetime_format="%Y-%m-%dT%H:%M:%S%:z"
        ),
        file_name=f"{context.site.id}-energy-{first}-{last}.csv",
        mime="text/csv",
        icon=":material/download:",
    )
    st.caption(
        "From the meter's registers where they were read, else from the cleansed power. Sums follow the site's own "
        "calendar: a day has 92, 96 or 100 quarters of an hour."
    )
