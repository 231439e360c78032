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
from ganatomy.claims.decide import CLAIMS, Reproduction, find_claim
from ganatomy.claims.page import cells
from ganatomy.claims.queue import PAGE, hours_left, plan, run_all
from ganatomy.claims.reproduction import THREADS, reproduce
from ganatomy.claims.results import pages, read_page
from ganatomy.cli.options import leading, parse
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.training.loop import Stopped
from ganatomy.training.run import TrainConfig


def wrapped(text: str) -> str:
    """Return a text in lines of at most 120 characters, broken only at spaces."""
    return textwrap.fill(text, 120, break_on_hyphens=False)


RESULTS = Path("runs") / "reproduce"
HELP = f"""usage: ganatomy reproduce SYSTEM [--seeds 3] [--rounds N] [--preset small] [--out DIR] [--data FOLDER] [...]
       ganatomy reproduce --all [--seeds 3] [--jobs 1] [--preset small] [--out DIR]
       ganatomy reproduce --stale [--out DIR]

Tests the claim of a system's paper. The system and the methods that the paper compares it with are trained with several
seeds and scored on the same test subjects. Every part of the claim is then reproduced, not reproduced, or undecided,
which is written to claim.md, claim.json and report.html; below three seeds nothing is decided. Finished runs in --out
are used again, unfinished ones continued; those that were trained by other code than the present one are refused, or
trained again with --retrain. Without --data the systems are trained and tested on built-in phantoms.

With --all the claims of all systems are tested on phantoms, the cheapest first, each into a folder of its own below
--out. Stopped and called again, it goes on; runs of older code are kept aside and trained again. With --stale it lists
the results below --out that are older than the code that they rest on: the claim, its methods, the judge and the
phantom.

{wrapped("Systems with a claim: " + ", ".join(CLAIMS) + ".")}

`ganatomy reproduce SYSTEM --help` shows all options."""

COLOURS = {"reproduced": "green", "not reproduced": "red", "undecided": "yellow", "not run enough": "yellow"}


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
    threads: int = THREADS
    """Number of CPU threads; results repeat only on the same number."""
    secret: Path | None = None
    """File with the secret from which pseudonyms of subjects are made; none means your own, created on first use."""
    retrain: bool = False
    """Train again what has been trained by other code, or by code that is not known; old runs are kept beside it."""


@dataclasses.dataclass
class Queue:
    """Options of the test of all claims."""

    seeds: int = 3
    """Number of seeds with which every compared method is trained."""
    rounds: int | None = None
    """Training rounds of every paper's own method; none means those of the preset."""
    preset: str = "small"
    """Named configuration: `paper` follows the papers, `small` suits a workstation without a GPU."""
    jobs: int = 1
    """Number of claims that are tested at the same time, each in a process of its own."""
    out: Path = RESULTS
    """Folder of all results, with a folder for each system."""
    device: str = "auto"
    """Device on which to train: cpu, cuda, or auto."""
    threads: int = THREADS
    """Number of CPU threads of each process; results repeat only on the same number."""
    retrain: bool = True
    """Train again what has been trained by other code, or by code that is not known; old runs are kept beside it."""


@dataclasses.dataclass
class Where:
    """Options of the list of results that are older than the code."""

    out: Path = RESULTS
    """Folder of all results: SYSTEM/claim.md, or claim-SYSTEM.md as in the documentation."""


@dataclasses.dataclass
class Options:
    """Test the claim of a system's paper."""

    general: Choice
    data: DataConfig


def run(arguments: Sequence[str]) -> int:
    """Test a claim and print its parts and the verdict, test all claims, or list results that are out of date."""
    if arguments and arguments[0] == "--all":
        return run_queue(parse(Queue, arguments[1:], "ganatomy reproduce --all", Queue()))
    if arguments and arguments[0] == "--stale":
        return list_stale(parse(Where, arguments[1:], "ganatomy reproduce --stale", Where()).out)
    system = leading(arguments, "reproduce", "system", "reproduce SYSTEM", HELP)
    if system is None:
        return 0
    claim = find_claim(system)
    default = Options(Choice(), DataConfig())
    options = parse(Options, arguments[1:], f"ganatomy reproduce {claim.slug}", default)
    choice = options.general
    check_counts(choice)
    out = choice.out or RESULTS / claim.slug
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
            retrain=choice.retrain,
        )
    except Stopped as stop:
        print(f"ganatomy: stopped after round {stop.round} and saved; the same command continues", file=sys.stderr)
        return 128 + (stop.signal_number or signal.SIGINT)
    show(found)
    return 0


def check_counts(choice: Choice | Queue) -> None:
    """Check the options that count something.

    Raises:
        UserError: one of them is below 1.
    """
    for name in ("seeds", "rounds", "jobs"):
        value = getattr(choice, name, None)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: at least one is needed")


def run_queue(choice: Queue) -> int:
    """Test all claims whose results are missing or out of date, and say what is left."""
    check_counts(choice)
    waiting = plan(choice.out, choice.seeds, choice.preset, choice.rounds)
    left = [one.slug for one in waiting if not one.done]
    hours = hours_left(waiting)
    forecast = f"; about {hours:.1f} hours of training on one processor" if left and hours is not None else ""
    print(f"{len(waiting) - len(left)} of {len(waiting)} claims are done{forecast}", flush=True)
    options = ["--seeds", choice.seeds, "--preset", choice.preset, "--device", choice.device]
    options += ["--threads", choice.threads, *(["--rounds", choice.rounds] if choice.rounds else [])]
    options += ["--retrain"] if choice.retrain else []
    commands = {
        slug: ["reproduce", slug, "--out", str(choice.out / slug), *map(str, options), "--quiet"] for slug in left
    }

    def tell(slug: str, status: int) -> None:
        page = choice.out / slug / PAGE
        words = read_page(slug, page).verdict if status == 0 else f"ended with exit status {status}"
        print(f"{slug}: {words}", flush=True)

    ended, signal_number = run_all(commands, choice.jobs, tell)
    if signal_number is not None:
        print("ganatomy: stopped; the same command continues", file=sys.stderr)
        return 128 + signal_number
    if failed := [slug for slug, status in ended.items() if status]:
        print(f"ganatomy: not tested: {', '.join(failed)}; see the messages above", file=sys.stderr)
        return 3
    return 0


def list_stale(folder: Path) -> int:
    """Print the results below a folder that are older than the code that they rest on."""
    found = pages(folder)
    stale = [page for page in found if page.stale]
    for page in stale:
        why = "the code has changed since" if page.code else "it does not name the code that its runs were trained by"
        print(f"{page.path}: {why}")
    print(f"{len(stale)} of {len(found)} results are older than the code that they rest on")
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
