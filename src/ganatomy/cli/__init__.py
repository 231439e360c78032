"""The command line: parse, call, print. Commands are imported when they are asked for."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from ganatomy.errors import Notice, UserError

COMMANDS = {
    "train": "train a system on a folder, a manifest, or its embedded phantom",
    "evaluate": "judge a trained run on test cases: metrics, table, report with pictures",
    "apply": "apply a trained run to a DICOM series, NIfTI or image file, or a folder of them",
    "sample": "make synthetic images with a trained run that makes images from noise",
    "turing": "test whether people can tell generated images from real ones: forms to fill in, and their scores",
    "reproduce": "test a paper's claim on embedded data, with seeds, intervals and a verdict",
    "study": "compare trainings: fewer annotations, other systems, the baseline, folds, what images are good for",
    "list": "all systems and their state",
    "info": "what a system is and the options it has",
}


def usage() -> str:
    """The overview printed by ``ganatomy --help``."""
    lines = [
        "usage: ganatomy COMMAND [...]",
        "",
        "Adversarial learning on medical images: train, judge and apply the published systems, in physical units.",
        "",
        *[f"  {name:<10} {what}" for name, what in COMMANDS.items()],
        "",
        "`ganatomy COMMAND --help` tells more, `ganatomy train SYSTEM --help` all options of a system.",
        "First steps: ganatomy train wgan-vgg --preset small --out runs/first && ganatomy evaluate runs/first",
    ]
    return "\n".join(lines)


def speaks() -> bool:
    """Whether this process talks to the user: of several that train together, only the first one does."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def complain(sentence: str, code: int) -> int:
    """Say what is wrong, and give back the exit code."""
    if speaks():
        print(f"ganatomy: {sentence}", file=sys.stderr)
    return code


@contextmanager
def notices() -> Iterator[None]:
    """Print notices as lines of their own, each once; other warnings are shown as usual."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, Notice):
                usual(message, category, *rest, **more)
            elif speaks():
                print(f"ganatomy: warning: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 2 a user's mistake, 128 + n a signal."""
    # Not list(): once the command of that name is imported, it hides the built-in here.
    arguments = [*(sys.argv[1:] if arguments is None else arguments)]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("ganatomy"))
        return 0
    command, rest = arguments[0], arguments[1:]
    try:
        if command not in COMMANDS:
            nearest = get_close_matches(command, COMMANDS, n=1)
            guess = f"did you mean {nearest[0]}? " if nearest else ""
            raise UserError(f"unknown command {command!r}; {guess}there are {', '.join(COMMANDS)}")
        with notices():
            code = int(import_module(f"ganatomy.cli.{command}").run(rest))
        sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
    except UserError as error:
        code = complain(" ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        code = complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code if speaks() else 0  # the first process sees a failure of any other as one of the machine
