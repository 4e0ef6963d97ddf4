"""The one error that this package raises for input that cannot be used."""


class InputError(ValueError):
    """Something that a user gave cannot be used; the message is one line that says what to do."""
