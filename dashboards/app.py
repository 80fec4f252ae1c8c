"""The script that Streamlit runs for every browser session: who is there, which site, which page."""

from __future__ import annotations

from html import escape
from pathlib import Path

import streamlit as st

from dashboards.navigation import pages_for
from dashboards.roles import ROLE_NAMES
from dashboards.session import SITE_KEY, CurrentUser, current_user, session_over, site_data, site_ids
from flexergy_pipelines.store.errors import StoreError

ICON = Path(__file__).with_name("favicon.png")

_CHROME = """
<style>
[data-testid="stMainBlockContainer"]{padding-top:2.6rem;padding-bottom:2rem}
@media(max-width:640px){[data-testid="stMainBlockContainer"]{padding:3.2rem .9rem 2rem}}
[data-testid="stElementContainer"][data-stale="true"],[data-stale="true"]{opacity:1!important}
</style>
"""


def main() -> None:
    """Draw the frame around the chosen page."""
    st.set_page_config(page_title="Flexergy", page_icon=str(ICON), layout="wide")
    st.html(_CHROME)
    try:
        user = current_user()
        if user is None:
            session_over()
            st.stop()
        sites = site_ids(user)
        _frame(user, sites)
    except StoreError as error:
        st.error(f"The database did not answer as it should: {error}", icon=":material/database:")
        st.button("Try again", key="retry")


def _frame(user: CurrentUser, sites: list[str]) -> None:
    if not sites:
        st.title("Flexergy")
        st.info(
            "**No site yet.** Import one with `flexergy site import FILE.yaml`, or the samples with "
            "`flexergy sample import`; it appears here at once.",
            icon=":material/add_location_alt:",
        )
        _who(user)
        st.stop()
    pages = [
        st.Page(spec.draw, title=spec.title, icon=spec.icon, url_path=spec.path, default=place == 0)
        for place, spec in enumerate(pages_for(user.role))
    ]
    chosen = st.navigation(pages)
    known = {site_id: site_data(user, site_id).site for site_id in sites}
    ordered = sorted(sites, key=lambda site_id: (known[site_id].kind != "microgrid", known[site_id].name))
    if st.session_state.get(SITE_KEY) not in sites:
        st.session_state[SITE_KEY] = ordered[0]
    with st.sidebar:
        st.selectbox("Site", ordered, key=SITE_KEY, format_func=lambda site_id: known[site_id].name)
        _who(user)
    chosen.run()


def _who(user: CurrentUser) -> None:
    role = ROLE_NAMES.get(user.role, user.role)
    st.html(
        f'<div style="font-size:.85rem;opacity:.85;margin-top:.6rem"><b>{escape(user.name)}</b><br>{escape(role)} of '
        f'{escape(user.tenant)}<br><a href="/logout" target="_self" style="color:inherit;font-weight:600">Log out</a>'
        "</div>"
    )


main()
