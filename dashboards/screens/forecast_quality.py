"""Section of the page Forecasts: how good the served forecasts were, day by day."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboards.charts.forecast_quality import daily_chart
from dashboards.session import PageContext
from dashboards.views.forecast import Target
from dashboards.views.forecast_quality import SUBJECTS, Subject, newest_words, series_of, unit_of
from dashboards.widgets import empty

PERIODS = {"2 weeks": 14, "2 months": 60, "1 year": 365}


def quality_section(context: PageContext, targets: list[Target]) -> None:
    """Choose a target, a figure and a period; draw its days."""
    st.subheader("Quality over time", anchor=False)
    titles = {target.title: target for target in targets}
    if not titles:
        empty("Nothing is forecast here.", "The site's settings exclude every asset from forecasting.")
        return
    left, middle, right = st.columns([2, 2, 1])
    target = titles[left.selectbox("Forecast of", list(titles), key="quality_target")]
    subject = {one.title: one for one in SUBJECTS}[
        middle.selectbox("Figure", [one.title for one in SUBJECTS], key="quality_subject")
    ]
    days = PERIODS[right.selectbox("Period", list(PERIODS), key="quality_period")]
    start = context.now - timedelta(days=days)
    kpis = context.data.kpis("monitoring", start, context.now)
    series = series_of(kpis, target, subject)
    if series.is_empty():
        empty(
            "No figures yet.",
            "Every night at 01:00 the forecasts of the day before are compared with what was measured; the first day "
            "appears the morning after a whole day of forecasts.",
        )
        return
    chart = daily_chart(
        series,
        start,
        context.now,
        context.site.zone,
        unit=unit_of(target, subject),
        mark=_mark(context, subject),
    )
    st.altair_chart(chart, width="stretch")
    st.caption(subject.note)
    newest = newest_words(kpis, target)
    if newest:
        st.caption(f"newest day: {newest}")


def _mark(context: PageContext, subject: Subject) -> tuple[float, str] | None:
    limits = context.site.forecasts.monitoring
    marks = {
        "Bias": (0.0, "neither too high nor too low"),
        "Coverage": (80.0, "right"),
        "Drift": (limits.drift_psi, "limit of the alarm, higher where the series always wandered"),
        "Input data": (100 * limits.input_quality, "least share of good values before an alarm"),
    }
    return marks.get(subject.title)
