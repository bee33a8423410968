"""The one exception that users are meant to see."""


class UserError(Exception):
    """A mistake that the user can mend: its text says in one sentence what is wrong, where, and what mends it."""
