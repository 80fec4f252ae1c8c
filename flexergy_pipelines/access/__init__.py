"""Users, roles, passwords and sessions."""

from flexergy_pipelines.access.sessions import authenticate, open_session, resolve_session, revoke, revoke_all
from flexergy_pipelines.access.users import (
    ADMINISTRATOR,
    FIELD_STAFF,
    OPERATOR,
    ROLES,
    VIEWER,
    User,
    create_user,
    ensure_admin,
    get_user,
    list_users,
    lock_user,
    set_password,
    set_role,
)

__all__ = [
    "ADMINISTRATOR",
    "FIELD_STAFF",
    "OPERATOR",
    "ROLES",
    "VIEWER",
    "User",
    "authenticate",
    "create_user",
    "ensure_admin",
    "get_user",
    "list_users",
    "lock_user",
    "open_session",
    "resolve_session",
    "revoke",
    "revoke_all",
    "set_password",
    "set_role",
]
