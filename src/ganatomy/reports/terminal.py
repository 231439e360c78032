"""The terminal or notebook on which progress is shown, and the log that takes its place where output is redirected.

The library logs to loggers below ``ganatomy``, which are silent until a program configures them. The command line does
so, and so do functions that are asked to show what they do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

WIDTH = 100
"""Columns of text in the output of a notebook, which does not tell its width (our choice)."""


LOG = "ganatomy"
"""Name of the logger above all others of the library."""
EVERY = 30.0
"""Seconds between two lines on work whose output is no terminal (our choice)."""
WIDE = 120
"""Columns of a terminal from which bars and names are long (our choice)."""


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def chosen(show: bool | None) -> bool:
    """Return whether to show progress; None means in notebooks and on terminals, and not in files and pipes."""
    return (in_notebook() or sys.stderr.isatty()) if show is None else show


def console(show: bool) -> Console:
    """Return the console for progress and messages, the standard error stream; it is silent unless ``show``.

    In a notebook it draws as on a terminal, on one line, since the widgets that rich would use are another package.
    """
    show = show and not silenced()
    if in_notebook():
        return Console(
            stderr=True, quiet=not show, soft_wrap=True, force_jupyter=False, force_terminal=True, width=WIDTH
        )
    return Console(stderr=True, quiet=not show, soft_wrap=True)


def bar(console: Console, *, unit: str = "", noted: bool = False, **how: Any) -> Progress:
    """Return a progress bar that keeps count and remaining time whole on a terminal of 80 columns.

    The name of the work and the note give way. Without a terminal, or with a quiet one, nothing is drawn.

    Args:
        console: terminal.
        unit: unit of what is counted, in the plural.
        noted: whether tasks have a field ``note``, which is shown at the end.
        how: further arguments of `rich.progress.Progress`.
    """

    def column(**options: Any) -> Column:
        return Column(no_wrap=True, **options)

    narrow = console.width < WIDE
    name = column(overflow="ellipsis", max_width=20 if narrow else 60)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", "bold", markup=False, table_column=name),
        BarColumn(bar_width=10 if narrow else 30, table_column=column()),
        MofNCompleteColumn(table_column=column()),
        *([TextColumn(unit, table_column=column())] if unit else []),
        TimeElapsedColumn(table_column=column()),
        TextColumn("left", table_column=column()),
        TimeRemainingColumn(elapsed_when_finished=False, table_column=column()),
    ]
    if noted:
        rest = column(overflow="ellipsis", ratio=1)
        columns.append(TextColumn("{task.fields[note]}", markup=False, table_column=rest))
    shown = console.is_terminal and not console.quiet
    return Progress(*columns, console=console, disable=not shown, **how)


class _Lines(logging.Handler):
    """Writes each message on a line of its own to the standard error stream of the moment, above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        told = escape(self.format(record))
        if record.levelno >= logging.WARNING:
            told = f"[yellow]warning: {told}[/]"
        Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(told)


def silenced() -> bool:
    """Return whether only errors are to be shown, because the program set the level of the log so."""
    return logging.getLogger(LOG).level > logging.INFO


@contextmanager
def spoken(show: bool = True, level: int = logging.INFO) -> Iterator[None]:
    """Write the messages of the library to the standard error stream meanwhile, unless the program handles them itself.

    Args:
        show: whether to do anything.
        level: lowest level of the messages that are written.
    """
    log = logging.getLogger(LOG)
    if not show or any(not isinstance(one, logging.NullHandler) for one in log.handlers):
        yield
        return
    handler, before = _Lines(), log.level
    log.addHandler(handler)
    log.setLevel(before or level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class Clock:
    """Tells when the next line on a long piece of work is due.

    Args:
        every: seconds between two lines.
        now: clock in seconds.
    """

    def __init__(self, every: float = EVERY, now: Callable[[], float] = monotonic):
        self.every, self.now = every, now
        self.began = self.last = now()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now() - self.began

    def is_due(self) -> bool:
        """Return whether a line is due, and begin to wait for the next one if it is."""
        due = self.now() - self.last >= self.every
        self.last = self.now() if due else self.last
        return due

    def tells(self, number: int, total: int) -> bool:
        """Return whether a line is written after the case ``number`` of ``total``: the last one, or one that is due."""
        return self.is_due() or number == total


def duration(seconds: float) -> str:
    """Return a duration in words, in a unit that fits: ``40 seconds``, ``12 minutes``, ``3.5 hours``, ``6.2 days``."""
    for unit, length, most in (("second", 1, 90), ("minute", 60, 5400), ("hour", 3600, 129_600), ("day", 86_400, None)):
        if most is None or seconds < most:
            amount = seconds / length
            number = f"{amount:.0f}" if length < 3600 or amount >= 10 else f"{amount:.2g}"
            return f"{number} {unit}" if number == "1" else f"{number} {unit}s"
    raise AssertionError
