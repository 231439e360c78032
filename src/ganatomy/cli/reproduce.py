"""``ganatomy reproduce SYSTEM``."""

import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ganatomy.claims.decide import CLAIMS, find_claim
from ganatomy.claims.reproduction import Reproduction, cells, reproduce
from ganatomy.cli.options import leading, parse
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.training.loop import Stopped
from ganatomy.training.run import TrainConfig

HELP = f"""usage: ganatomy reproduce SYSTEM [--seeds 2] [--rounds N] [--preset small] [--out DIR] [--data FOLDER] [...]

Trains a system and what its paper compares it with, judges all on the same test subjects, and says of every part of
the paper's claim whether it is reproduced, not reproduced, or undecided. Runs that are in --out already are used,
unfinished ones resumed. Without --data it uses embedded phantoms.

Systems with a claim: {", ".join(CLAIMS)}. `ganatomy reproduce SYSTEM --help` shows all options."""

COLOURS = {"reproduced": "green", "not reproduced": "red", "undecided": "yellow"}


@dataclasses.dataclass
class Choice:
    """How hard to try."""

    seeds: int = 2
    """Seeds each arm is trained with."""
    rounds: int | None = None
    """Rounds of the proposed method; none means the preset's own."""
    preset: str = "small"
    """Configuration of the system; `small` suits a workstation without a GPU, `paper` follows the paper."""
    out: Path | None = None
    """Folder for runs and results; none means runs/reproduce/SYSTEM."""
    device: str = "auto"
    """Where to train: cpu, cuda or auto."""
    threads: int | None = None
    """CPU threads."""
    secret: Path | None = None
    """File with the secret that makes pseudonyms of subjects; none means your own, made when first needed."""


@dataclasses.dataclass
class Options:
    """Test the claim of a system's paper."""

    choice: Choice
    data: DataConfig


def run(arguments: Sequence[str]) -> int:
    """Test a claim."""
    system = leading(arguments, "reproduce", "system", "reproduce SYSTEM", HELP)
    if system is None:
        return 0
    claim = find_claim(system)
    default = Options(Choice(), DataConfig())
    options = parse(Options, arguments[1:], f"ganatomy reproduce {claim.slug}", default)
    choice = options.choice
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
            options=TrainConfig(device=choice.device, threads=choice.threads),
            show=True,
            secret=choice.secret,
        )
    except Stopped as stop:
        print(f"ganatomy: stopped after round {stop.round} and saved; the same command goes on", file=sys.stderr)
        return 128 + (stop.signal_number or signal.SIGINT)
    show(found)
    return 0


def show(found: Reproduction) -> None:
    """The claim, its parts, and the verdict."""
    console = Console()
    console.print(found.claim.words, highlight=False)
    table = Table("claim", "score", "difference", "finding")
    for result in found.results:
        words, score, _, _, difference, finding = cells(result)
        table.add_row(words, score, difference, f"[{COLOURS[finding]}]{finding}[/]")
    console.print(table)
    console.print(f"[bold]{found.sentence}[/]", highlight=False)
    console.print(f"{found.out / 'report.html'}, claim.md, claim.json", highlight=False, soft_wrap=True)
