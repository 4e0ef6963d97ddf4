"""The one exception of this package."""


class InputError(ValueError):
    """Something that a user gave cannot be used; the message is one line that says what to do."""
