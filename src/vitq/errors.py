"""Errors that every room may raise; torch-free."""


class BadInputError(Exception):
    """Something the user gave cannot be used; the message is one line that says what is wrong and what to do.

    The command line prints it and exits with code 2.
    """
