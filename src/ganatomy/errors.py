"""The exceptions and the warning whose messages are shown to the user."""

from __future__ import annotations

import errno
from collections.abc import Sequence


class UserError(Exception):
    """An input of the user that cannot be used; the message is one line that names the input and the remedy.

    The command line prints the message without a traceback and exits with code 2. Library users can catch it.
    """

    def __str__(self) -> str:
        # Python represents names of files that are not UTF-8 by characters which no stream can print.
        return super().__str__().encode(errors="backslashreplace").decode()


class Shortage(UserError):
    """A resource of the machine that has run out, such as memory or open files; the message is one line with a remedy.

    No input is at fault, and what follows would fail, too: a caller that leaves a case out and goes on after a
    `UserError` lets a `Shortage` pass.
    """


class UnknownOption(UserError):
    """An option that does not exist.

    Attributes:
        names: names of all options that do not exist, with dots between groups and their options.
    """

    def __init__(self, message: str, names: Sequence[str] = ()):
        super().__init__(message)
        self.names = tuple(names)


class NotCalibrated(UserError):
    """An error of data or weights from which no thresholds can be found; the weights can be used without them."""


class Notice(UserWarning):
    """A warning to the user that does not stop the run; the message is one line.

    The command line prints it to the standard error stream. Library users can filter it.
    """


class LeftOut(Notice):
    """A case that could not be used; the message names it and the reason, and the other cases are finished.

    The exit status of a command tells whether there were any.
    """


def either(words: Sequence[str]) -> str:
    """Return words with commas, and ``or`` before the last one, for a message."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


_SHORT = {
    errno.EMFILE: "too many open files; raise the limit, e.g. with ulimit -n 4096",
    errno.ENFILE: "too many open files on this machine; end programs that hold them",
    errno.ENOMEM: "out of memory; end other programs, or take smaller volumes, tiles or batches",
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your quota of disk space is used up; free some space",
    errno.EIO: "the disk reports an error of input or output; check the disk or the connection to it",
}
"""Number of a system error that no input is the reason of, to what has run out and the remedy."""


def shortage(error: BaseException, where: object) -> Shortage | None:
    """Return the shortage of the machine that an error reports, or None where the error has another reason.

    Libraries wrap errors of the system in their own, so the errors that led to this one are looked at, too.

    Args:
        error: exception that was caught.
        where: file or step for the message.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Shortage):
            return seen
        number = errno.ENOMEM if isinstance(seen, MemoryError) else getattr(seen, "errno", None)
        if number in _SHORT:
            return Shortage(f"{where}: {_SHORT[number]}")
        seen = seen.__cause__ or seen.__context__
    return None
