"""The one exception that speaks to the user."""


class UserError(Exception):
    """Something the user gave cannot be used; the message is one line that names it and the remedy.

    The command line prints the message without a traceback and exits with code 2. Library users can catch it.
    """
