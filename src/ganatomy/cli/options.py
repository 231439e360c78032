"""Options from dataclasses, with mistakes told in one line."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

from ganatomy.errors import UserError

T = TypeVar("T")
NOISE = re.compile(
    r"^(for full helptext|argument helptext|missing from|for further information|https?://)", re.IGNORECASE
)


def parse(kind: type[T], arguments: Sequence[str], program: str, default: Any = None) -> T:
    """An instance of ``kind`` from command-line arguments.

    Raises:
        UserError: unknown or missing options, values that do not fit.
    """
    said = io.StringIO()
    given = {} if default is None else {"default": default}
    try:
        with redirect_stderr(said):
            parsed: T = tyro.cli(kind, args=list(arguments), prog=program, config=(tyro.conf.OmitArgPrefixes,), **given)
            return parsed
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(f"{condense(said.getvalue())} (see {program} --help)") from None


def condense(box: str) -> str:
    """The sentences in a framed error message, as one line."""
    lines = [line.strip("│╭╮╰╯─ \t") for line in box.splitlines() if "╭" not in line]
    kept = [line for line in lines if line and not NOISE.match(line)]
    return " ".join(kept).replace("Perhaps you meant:", "- perhaps you meant") or "bad options"
