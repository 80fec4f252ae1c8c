"""Users: add, change role, lock; for administrators of a subsystem."""

from __future__ import annotations

import secrets

import streamlit as st

from dashboards.roles import ADMINISTRATOR, ROLE_NAMES
from dashboards.session import PageContext, page_context
from dashboards.views.users import end_of, user_table
from dashboards.widgets import heading, text_table
from flexergy_pipelines import access
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError


def page() -> None:
    """Draw the page."""
    context = page_context()
    heading(context, "Users", wide_note=f"of {context.user.tenant}")
    if context.user.role != ADMINISTRATOR:
        st.error("Only administrators manage users.")
        return
    listed = st.container()
    left, right = st.columns(2, gap="large")
    with left:
        _add(context)
    with right:
        _change(context)
    with listed:
        users = access.list_users(context.data.db)
        text_table(user_table(users, context.now, context.site.zone), unbroken=("name", "role"))


def _still_administrator() -> PageContext | None:
    fresh = page_context()
    if fresh.user.role == ADMINISTRATOR:
        return fresh
    st.error("Your role may no longer manage users.")
    return None


def _add(context: PageContext) -> None:
    st.markdown("**Add a user**")
    name = st.text_input("Name", max_chars=64, key="user_name")
    role = st.selectbox("Role", list(ROLE_NAMES), index=3, format_func=ROLE_NAMES.__getitem__, key="user_role")
    today = context.now.astimezone(context.site.zone).date()
    last_day = st.date_input("Last day of access (empty: no end)", None, min_value=today, key="user_end")
    if not st.button("Add", type="primary", key="user_add"):
        return
    fresh = _still_administrator()
    if fresh is None:
        return
    password = secrets.token_urlsafe(12)
    until = end_of(last_day, context.site.zone)
    try:
        access.create_user(fresh.data.db, name.strip(), password, role, valid_until=until, actor=fresh.user.name)
    except InvalidDataError as error:
        st.error(str(error))
        return
    st.success(f"Added {name.strip()}. First password, shown only now:")
    st.code(password, language=None)


def _change(context: PageContext) -> None:
    st.markdown("**Change a user**")
    users = access.list_users(context.data.db)
    if not users:
        st.caption("There is no user yet.")
        return
    chosen = st.selectbox("User", users, format_func=lambda user: user.name, key="user_chosen")
    role = st.selectbox(
        "New role",
        list(ROLE_NAMES),
        index=list(ROLE_NAMES).index(chosen.role),
        format_func=ROLE_NAMES.__getitem__,
        key=f"user_new_role_{chosen.name}",
    )
    first, second, third = st.columns(3)
    set_role = first.button("Set role", width="stretch", key="user_set_role")
    lock = second.button("Unlock" if chosen.locked else "Lock", width="stretch", key="user_lock")
    renew = third.button("New password", width="stretch", key="user_password")
    fresh = _still_administrator() if set_role or lock or renew else None
    if fresh is None:
        return
    db, actor = fresh.data.db, fresh.user.name
    try:
        if set_role:
            access.set_role(db, chosen.name, role, actor=actor)
            st.success(f"{chosen.name} is now {ROLE_NAMES[role].lower()}; it holds from the next click on.")
        elif lock:
            access.lock_user(db, chosen.name, locked=not chosen.locked, actor=actor)
            st.success(f"{chosen.name} is {'open again' if chosen.locked else 'locked; open windows have ended'}.")
        else:
            password = secrets.token_urlsafe(12)
            access.set_password(db, chosen.name, password, actor=actor)
            st.success(f"New password of {chosen.name}, shown only now; open windows have ended:")
            st.code(password, language=None)
    except (InvalidDataError, NotFoundError) as error:
        st.error(str(error))
