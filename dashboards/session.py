"""Who sits at the screen. Everything a page knows of its user goes through `current_user`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import streamlit as st

from dashboards.data import SiteData
from dashboards.web import COOKIE, fingerprint
from flexergy_pipelines.access import resolve_session
from flexergy_pipelines.grid import Site
from flexergy_pipelines.settings import load_settings
from flexergy_pipelines.store import Store, open_store
from flexergy_pipelines.store.engine import TenantStore
from flexergy_pipelines.store.sites import list_sites, load_site

SITE_KEY = "site_id"
_OWNER_KEY = "_session_owner"


@dataclass(frozen=True, slots=True)
class CurrentUser:
    """The person at the screen, as the store knows them at this moment."""

    name: str
    role: str
    tenant: str


@st.cache_resource(show_spinner=False)
def the_store() -> Store:
    """One store for all browser sessions of this process."""
    return open_store(load_settings())


@st.cache_resource(show_spinner=False, max_entries=1000)
def tenant_store(tenant: str) -> TenantStore:
    """The store bound to one tenant."""
    return the_store().tenant(tenant)


def current_user() -> CurrentUser | None:
    """The user of this browser session, asked of the store at every run of a page or fragment.

    None when nobody is logged in, the session has ended or was revoked, or the user's time is up.
    """
    token = st.context.cookies.get(COOKIE)
    if not token:
        return None
    user = resolve_session(the_store(), token)
    if user is None:
        return None
    # A page's memory belongs to one login; another one must not find what the first left there.
    owner = fingerprint(token)
    if st.session_state.get(_OWNER_KEY, owner) != owner:
        st.session_state.clear()
    st.session_state[_OWNER_KEY] = owner
    return CurrentUser(user.name, user.role, user.tenant)


def now() -> datetime:
    """The present moment; a seam for tests."""
    return datetime.now(UTC)


@st.cache_resource(show_spinner=False, ttl=30, max_entries=1000)
def _site(tenant: str, site_id: str) -> Site:
    return load_site(tenant_store(tenant), site_id)


def forget_sites() -> None:
    """Read the sites' configuration anew; they are kept for half a minute otherwise."""
    _site.clear()


def site_ids(user: CurrentUser) -> list[str]:
    """Sites of the user's own tenant."""
    return list_sites(tenant_store(user.tenant))


def site_data(user: CurrentUser, site_id: str) -> SiteData:
    """A site of the user's own tenant; a site of another is not found."""
    return SiteData(tenant_store(user.tenant), _site(user.tenant, site_id))


@dataclass(frozen=True, slots=True)
class PageContext:
    """What a page works with."""

    user: CurrentUser
    data: SiteData
    now: datetime

    @property
    def site(self) -> Site:
        """The chosen site."""
        return self.data.site


def page_context() -> PageContext:
    """User, chosen site and time for this run; stops the page when the session is over."""
    user = current_user()
    if user is None:
        session_over()
        st.stop()
    site_id = st.session_state.get(SITE_KEY)
    known = site_ids(user) if site_id is None else []
    chosen = site_id or (known[0] if known else None)
    if chosen is None:
        st.info("There is no site yet.")
        st.stop()
    return PageContext(user, site_data(user, chosen), now())


def session_over() -> None:
    """Say that the login has ended and where to go."""
    st.warning("Your session has ended.", icon=":material/lock:")
    st.html('<a href="/login" target="_self" style="font-weight:600;color:inherit">Log in again</a>')
