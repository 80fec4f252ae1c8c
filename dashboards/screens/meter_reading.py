"""Bulk services of meters: how reading and configuring went, and the jobs that operators set."""

from __future__ import annotations

from datetime import date, timedelta

import streamlit as st

from dashboards.roles import may_command
from dashboards.session import PageContext
from dashboards.views.metering import REPORT_WORDS, configuration_table, reading_table
from dashboards.views.quality import day_bounds
from dashboards.widgets import empty, text_table
from flexergy_pipelines.store.bulk import REPORTS, BulkJob
from flexergy_pipelines.store.errors import InvalidDataError

PERIODS = {5: "5 min", 15: "15 min", 30: "30 min", 60: "1 hour", 360: "6 hours", 1440: "1 day", 10080: "1 week"}


def meter_reading(context: PageContext, period: tuple[date, date]) -> None:
    """Draw statistics and jobs.

    Parameters
    ----------
    context : PageContext
        User, site, time.
    period : (date, date)
        First and last day of the statistics; what was read today counts too.
    """
    start, end = day_bounds(period[0], context.site.zone)[0], context.now + timedelta(seconds=1)
    st.markdown("**How reading went**")
    by = st.segmented_control("By", ["meter", "concentrator"], default="meter", key="dq_by") or "meter"
    statistics = context.data.reading_statistics(start, end, by)
    if statistics.is_empty():
        empty("No meter was read in bulk in these days.", "The first results come with the next job that is due.")
    else:
        text_table(
            reading_table(statistics, by, context.site.zone), unbroken=["last success", "mean latency"], cards=True
        )
    sent = context.data.configurations(start, end)
    if not sent.is_empty():
        st.markdown("**Settings sent to meters**")
        text_table(configuration_table(sent, context.site.zone), unbroken=["at", "outcome"], cards=True)
    st.markdown("**Jobs**")
    jobs = context.data.bulk_jobs()
    if not jobs:
        st.caption("No job was set: every meter is read once an hour.")
    for job in jobs:
        reports = " and ".join(REPORT_WORDS[report] for report in job.reports)
        meters = ", ".join(job.meters) or "all meters"
        state = "" if job.enabled else ", not done at present"
        st.markdown(f"`{job.name}` reads {reports} of {meters} every {_every(job.period_minutes)}{state}")
    if may_command(context.user.role):
        _set_job(context, jobs)


def _every(minutes: int) -> str:
    return PERIODS.get(minutes, f"{minutes} min")


def _set_job(context: PageContext, jobs: list[BulkJob]) -> None:
    with st.expander("Set a job"), st.form("dq_job", border=False):
        name = st.text_input("Name", max_chars=60, help="An existing job of this name is changed.")
        meters = st.multiselect("Meters", [meter.id for meter in context.site.meters], placeholder="all meters")
        left, right = st.columns(2)
        reports = left.multiselect("What", REPORTS, default=REPORTS, format_func=REPORT_WORDS.__getitem__)
        minutes = right.selectbox("Every", list(PERIODS), index=3, format_func=PERIODS.__getitem__)
        attempts = left.number_input("Tries of each meter", 1, 20, 3)
        timeout_s = right.number_input("Longest wait for an answer [s]", 0.05, 60.0, 1.0)
        enabled = st.checkbox("Do it", value=True)
        if st.form_submit_button("Save", type="primary"):
            job = BulkJob(
                context.site.id, name.strip(), tuple(meters), tuple(reports), minutes, int(attempts), timeout_s, enabled
            )
            try:
                context.data.save_bulk_job(job, context.user.name)
            except InvalidDataError as error:
                st.error(str(error))
            else:
                st.rerun()
    if jobs:
        with st.expander("Delete a job"), st.form("dq_delete", border=False):
            gone = st.selectbox("Job", [job.name for job in jobs])
            if st.form_submit_button("Delete"):
                context.data.delete_bulk_job(gone, context.user.name)
                st.rerun()
