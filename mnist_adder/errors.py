"""What is raised for bad input, and how a message is printed."""


class InputError(ValueError):
    """Something that a user gave cannot be used; the message is one line that says what to do."""


def one_line(text: object) -> str:
    """Return a text with what cannot be printed, such as a newline in a file's name, escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
