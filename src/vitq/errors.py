"""Errors that every room may raise; torch-free."""


class BadInputError(Exception):
    """Something the user gave cannot be used; the message is one line that says what is wrong and what to do.

    The command line prints it and exits with code 2.
    """


class UnsupportedError(Exception):
    """A method cannot do what a cell asks; the message is the reason that a record shows."""


class MethodInputError(ValueError):
    """The model or an option does not fit the method; the message says what to change."""
