"""The command line: parse, call, print. Commands are imported when they are asked for."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ganatomy.errors import UserError

COMMANDS = {
    "train": "train a system on a folder, a manifest, or its embedded phantom",
    "evaluate": "judge a trained run on test cases: metrics, table, report with pictures",
    "apply": "apply a trained run to a DICOM series, NIfTI or image file, or a folder of them",
    "reproduce": "test a paper's claim on embedded data, with seeds, intervals and a verdict",
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 2 a user's mistake, 128 + n a signal."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
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
            raise UserError(f"unknown command {command!r}; there are {', '.join(COMMANDS)}")
        return int(import_module(f"ganatomy.cli.{command}").run(rest))
    except UserError as error:
        print(f"ganatomy: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ganatomy: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
