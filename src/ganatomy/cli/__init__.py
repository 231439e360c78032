"""The command line: parse the arguments, call a function, print the result.

The module of a command is imported only when that command runs, so that ``--help`` and ``list`` start at once.
"""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal

from ganatomy.errors import LeftOut, Notice, Shortage, UserError, shortage

COMMANDS = {
    "data": "show what is understood of a folder of images, and write its manifest",
    "train": "train a system on a folder of images, a CSV manifest, or its built-in phantom",
    "evaluate": "score a trained run on test cases: metrics.json, a table, and an HTML report with pictures",
    "apply": "apply a trained run to a DICOM series, NIfTI or image file, or a folder of them",
    "sample": "generate synthetic images with a trained run whose system generates images from noise",
    "turing": "test whether readers can tell generated from real images: write their forms, score their answers",
    "reproduce": "test the claim of a system's paper: train, compare, and say whether it is reproduced",
    "study": "compare several trainings: less annotation, other systems, no adversary, folds, synthetic images",
    "cache": "say how large the prepared cases are, or remove those that have not been used for long",
    "list": "list all systems, and whether they are ready or planned",
    "info": "describe a system, its options and its presets",
}


Loudness = Literal["quiet", "usual", "verbose"]
"""How much a command says: errors only, messages and progress, or details as well."""
WRITING = frozenset({"train", "evaluate", "apply", "sample", "turing", "reproduce", "study"})
"""Commands whose results are files."""

DONE, BROKEN, UNUSABLE, SOME_LEFT_OUT, SHORT = range(5)
STATUSES = {
    str(DONE): "done",
    str(BROKEN): "a mistake in ganatomy itself; please report it with the lines that were printed",
    str(
        UNUSABLE
    ): "not done: an option, a file or the data cannot be used, or training diverged; the message says what",
    str(SOME_LEFT_OUT): "done, except for cases that could not be used; each is named with the reason",
    str(SHORT): "stopped: the machine lacks memory, space on the disk or open files",
    "128 + n": "stopped by signal n, such as 130 by Ctrl-C; training has then saved its state and can be resumed",
}
"""Exit status of all commands, as text, to its meaning."""


def usage() -> str:
    """Return the overview printed by ``ganatomy --help``."""
    lines = [
        "usage: ganatomy COMMAND [...]",
        "",
        "Train, evaluate and apply published generative adversarial networks on medical images.",
        "",
        *[f"  {name:<10} {what}" for name, what in COMMANDS.items()],
        "",
        "A SYSTEM is a published method, such as wgan-vgg; a RUN is the folder where `train` keeps a trained system.",
        "`ganatomy COMMAND --help` explains a command; `ganatomy train SYSTEM --help` shows all options of a system.",
        "",
        "All commands take --quiet, to print errors only, and --verbose, to print details as well.",
        "",
        "To begin, without images of your own:",
        "  ganatomy train wgan-vgg --preset small --out runs/first",
        "  ganatomy evaluate runs/first",
        "",
        "Exit status:",
        *[f"  {status:<10} {meaning}" for status, meaning in STATUSES.items()],
    ]
    return "\n".join(lines)


def speaks() -> bool:
    """Return whether this process prints messages: where several processes train together, only rank zero does."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def complain(sentence: str, code: int) -> int:
    """Print an error message and return the exit code ``code``."""
    if speaks():
        print(f"ganatomy: {sentence}", file=sys.stderr)
    return code


def loudness_of(arguments: Sequence[str]) -> tuple[Loudness, list[str]]:
    """Return how much a command says, by the last of ``--verbose`` and ``--quiet``, and the other arguments."""
    asked = [word for word in arguments if word in ("--verbose", "--quiet")]
    loudness: Loudness = "usual" if not asked else "quiet" if asked[-1] == "--quiet" else "verbose"
    return loudness, [word for word in arguments if word not in asked]


@contextmanager
def spoken(loudness: Loudness, command: str) -> Iterator[None]:
    """Write the log of the library to the standard error stream meanwhile; with ``quiet``, nothing but errors.

    Quiet commands whose results are files say nothing on the standard output either.
    """
    from ganatomy.reports import terminal

    levels = {"quiet": logging.ERROR, "usual": logging.INFO, "verbose": logging.DEBUG}
    with ExitStack() as held:
        if loudness == "quiet" and command in WRITING:
            held.enter_context(redirect_stdout(held.enter_context(Path(os.devnull).open("w", encoding="utf-8"))))
        held.enter_context(terminal.spoken(speaks(), levels[loudness]))
        yield


@contextmanager
def notices(silent: bool = False) -> Iterator[list[str]]:
    """Print each `Notice` once, on a line of its own, and yield a list of those on cases that were left out.

    Other warnings are shown as usual.

    Args:
        silent: whether nothing is printed.
    """
    left_out: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("default", Notice)  # whatever the environment says
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, Notice):
                if not silent:
                    usual(message, category, *rest, **more)
                return
            if issubclass(category, LeftOut):
                left_out.append(str(message))
            if speaks() and not silent:
                print(f"ganatomy: warning: {' '.join(str(message).split())}", file=sys.stderr)

        warnings.showwarning = show
        yield left_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status, one of `STATUSES`.

    Args:
        arguments: command and its arguments; None means those of the process.
    """
    # Not list(...): importing the command `list` puts its module under that name here and hides the built-in.
    arguments = [*(sys.argv[1:] if arguments is None else arguments)]
    loudness, arguments = loudness_of(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return DONE if arguments else UNUSABLE
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("ganatomy"))
        return 0
    command, rest = arguments[0], arguments[1:]
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be in its encoding
    try:
        if "\0" in "".join(arguments):
            raise UserError("a word of the command holds a null character, which no name and no number has")
        if command not in COMMANDS:
            nearest = get_close_matches(command, COMMANDS, n=1)
            guess = f"did you mean {nearest[0]}? " if nearest else ""
            raise UserError(f"unknown command {command!r}; {guess}there are {', '.join(COMMANDS)}")
        with spoken(loudness, command), notices(silent=loudness == "quiet") as left_out:
            code = int(import_module(f"ganatomy.cli.{command}").run(rest))
        code = code or (SOME_LEFT_OUT if left_out else DONE)
        sys.stdout.flush()  # raises BrokenPipeError here, and not at exit, where the reader of a pipe has gone
    except UserError as error:
        code = complain(" ".join(str(error).split()), SHORT if isinstance(error, Shortage) else UNUSABLE)
        for note in getattr(error, "__notes__", ()) if speaks() else ():
            print(note, file=sys.stderr)
    except KeyboardInterrupt:
        code = complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            code = complain(f"{str(getattr(error, 'filename', ''))[:60]}...: the name is too long", UNUSABLE)
        elif (short := shortage(error, command)) is not None:
            code = complain(str(short), SHORT)
        else:
            raise
    return code if speaks() else 0  # a failing process would make rank zero report an error of the machine
