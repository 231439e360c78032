"""Options from dataclasses, with mistakes told in one line."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

from ganatomy.errors import UserError

T = TypeVar("T")
REFUSED = re.compile(r"validation errors? for \w+ ([\w.]+) (.+?) \[type=\w+, input_value=(.*?), input_type=")
"""Pydantic's words for a value out of range."""
ASIDE = re.compile("Got errors:|Argument helptext:|For full helptext|For further information")
"""Where a message turns from what is wrong to how the parser came to know."""
HELP = "│         "
"""How the help text of an option is set."""
MISSING = re.compile("^Missing from [^:]*:")


def leading(arguments: Sequence[str], command: str, what: str, usage: str, text: str) -> str | None:
    """The first argument of a command, which names ``what`` it works on; None when help was wanted, and printed.

    Raises:
        UserError: an option stands where it should.
    """
    if arguments and not arguments[0].startswith("-"):
        return arguments[0]
    if arguments and arguments[0] not in ("-h", "--help"):
        raise UserError(f"{command} needs a {what} before {arguments[0]}: ganatomy {usage}")
    print(text)
    return None


def peek(arguments: Sequence[str], *names: str) -> dict[str, str]:
    """Options that decide which others there are, read before these: name to value, of those that are given.

    Args:
        arguments: of the command.
        names: of the options, each with one value or, last or before another option, none.
    """
    found = {}
    for position, argument in enumerate(arguments):
        name, mark, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in names:
            found[name] = value if mark else next(iter(arguments[position + 1 : position + 2]), "")
    return found


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
    said = ASIDE.split(box)[0].splitlines()
    lines = [line.strip("│╭╮╰╯─ \t") for line in said if not line.startswith(("╭", HELP))]
    kept = " ".join(filter(None, lines))
    refused = REFUSED.search(kept)
    if refused:
        name, reason, given = refused.groups()
        return f"option --{name.replace('_', '-')}: {reason[0].lower()}{reason[1:]}, got {given}"
    kept = MISSING.sub("missing option", kept)
    return kept.replace("Perhaps you meant:", "- perhaps you meant") or "bad options"
