"""``ganatomy reproduce SYSTEM``."""

import dataclasses
import signal
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganatomy.api import with_options
from ganatomy.claims.decide import CLAIMS, find_claim
from ganatomy.claims.reproduction import Reproduction, cells, reproduce
from ganatomy.cli.options import leading, parse
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.training.loop import Stopped
from ganatomy.training.run import TrainConfig


def wrapped(text: str) -> str:
    """Return a text in lines of at most 120 characters, broken only at spaces."""
    return textwrap.fill(text, 120, break_on_hyphens=False)


HELP = f"""usage: ganatomy reproduce SYSTEM [--seeds 3] [--rounds N] [--preset small] [--out DIR] [--data FOLDER] [...]

Tests the claim of a system's paper. The system and the methods that the paper compares it with are trained with several
seeds and scored on the same test subjects. Every part of the claim is then reproduced, not reproduced, or undecided,
which is written to claim.md, claim.json and report.html. Finished runs in --out are used again, unfinished ones
continued. Without --data the systems are trained and tested on built-in phantoms.

{wrapped("Systems with a claim: " + ", ".join(CLAIMS) + ".")}

`ganatomy reproduce SYSTEM --help` shows all options."""

COLOURS = {"reproduced": "green", "not reproduced": "red", "undecided": "yellow"}


@dataclasses.dataclass
class Choice:
    """Seeds, rounds and output folder."""

    seeds: int = 3
    """Number of seeds with which every compared method is trained."""
    rounds: int | None = None
    """Training rounds of the paper's own method; none means those of the preset."""
    preset: str = "small"
    """Named configuration: `paper` follows the paper, `small` suits a workstation without a GPU."""
    out: Path | None = None
    """Output folder for runs and results; none means runs/reproduce/SYSTEM."""
    device: str = "auto"
    """Device on which to train: cpu, cuda, or auto."""
    threads: int | None = None
    """Number of CPU threads; none means the default of torch."""
    secret: Path | None = None
    """File with the secret from which pseudonyms of subjects are made; none means your own, created on first use."""


@dataclasses.dataclass
class Options:
    """Test the claim of a system's paper."""

    general: Choice
    data: DataConfig


def run(arguments: Sequence[str]) -> int:
    """Test a claim and print its parts and the verdict."""
    system = leading(arguments, "reproduce", "system", "reproduce SYSTEM", HELP)
    if system is None:
        return 0
    claim = find_claim(system)
    default = Options(Choice(), DataConfig())
    options = parse(Options, arguments[1:], f"ganatomy reproduce {claim.slug}", default)
    choice = options.general
    if choice.seeds < 1:
        raise UserError(f"--seeds {choice.seeds}: at least one is needed")
    if choice.rounds is not None and choice.rounds < 1:
        raise UserError(f"--rounds {choice.rounds}: at least one is needed")
    out = choice.out or Path("runs") / "reproduce" / claim.slug
    try:
        found = reproduce(
            claim.slug,
            out,
            options.data,
            seeds=choice.seeds,
            rounds=choice.rounds,
            preset=choice.preset,
            options=with_options(TrainConfig(), {"device": choice.device, "threads": choice.threads}),
            show=True,
            secret=choice.secret,
        )
    except Stopped as stop:
        print(f"ganatomy: stopped after round {stop.round} and saved; the same command continues", file=sys.stderr)
        return 128 + (stop.signal_number or signal.SIGINT)
    show(found)
    return 0


def show(found: Reproduction) -> None:
    """Print the claim, its parts, and the verdict."""
    console = Console()
    console.print(found.claim.words, markup=False, highlight=False)
    table = Table("claim", "score", "difference", "finding")
    for result in found.results:
        words, score, _, _, difference, finding = cells(result)
        table.add_row(*map(escape, (words, score, difference)), f"[{COLOURS[finding]}]{finding}[/]")
    console.print(table)
    console.print(found.sentence, style="bold", markup=False, highlight=False)
    console.print(f"{found.out / 'report.html'}, claim.md, claim.json", markup=False, highlight=False, soft_wrap=True)
