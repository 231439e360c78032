"""The exception and the warning whose messages are shown to the user."""


class UserError(Exception):
    """An input of the user that cannot be used; the message is one line that names the input and the remedy.

    The command line prints the message without a traceback and exits with code 2. Library users can catch it.
    """


class Notice(UserWarning):
    """A warning to the user that does not stop the run; the message is one line.

    The command line prints it to the standard error stream. Library users can filter it.
    """
