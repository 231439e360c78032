"""The exception and the warning that speak to the user."""


class UserError(Exception):
    """Something the user gave cannot be used; the message is one line that names it and the remedy.

    The command line prints the message without a traceback and exits with code 2. Library users can catch it.
    """


class Notice(UserWarning):
    """Something that the user should know and that stops nothing; the message is one line.

    The command line prints it to the standard error stream. Library users can filter it.
    """
