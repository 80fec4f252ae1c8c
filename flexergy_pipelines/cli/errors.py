"""What can keep the platform from starting."""


class CannotStartError(RuntimeError):
    """The platform cannot start here; the message says why and what to do."""
