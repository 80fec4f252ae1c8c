"""Who may see and do what on the screen. The store enforces it again; a page never is the authority."""

from __future__ import annotations

ADMINISTRATOR = "administrator"
OPERATOR = "operator"
FIELD_STAFF = "field_staff"
VIEWER = "viewer"

EVERYBODY = frozenset({ADMINISTRATOR, OPERATOR, FIELD_STAFF, VIEWER})
COMMANDERS = frozenset({ADMINISTRATOR, OPERATOR})
ACKNOWLEDGERS = frozenset({ADMINISTRATOR, OPERATOR, FIELD_STAFF})

ROLE_NAMES = {
    ADMINISTRATOR: "Administrator",
    OPERATOR: "Operator",
    FIELD_STAFF: "Field staff",
    VIEWER: "Viewer",
}


def may_command(role: str) -> bool:
    """Whether the role may command the plant."""
    return role in COMMANDERS


def may_acknowledge(role: str) -> bool:
    """Whether the role may acknowledge alarms."""
    return role in ACKNOWLEDGERS
