"""The terminal or notebook on which progress is shown."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 100
"""Columns of text in the output of a notebook, which does not tell its width (our choice)."""


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
    if in_notebook():
        return Console(
            stderr=True, quiet=not show, soft_wrap=True, force_jupyter=False, force_terminal=True, width=WIDTH
        )
    return Console(stderr=True, quiet=not show, soft_wrap=True)
