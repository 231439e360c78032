"""``ganatomy turing build RUN`` and ``ganatomy turing score DIR ANSWERS...``."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from ganatomy.cli.options import leading, parse
from ganatomy.errors import UserError
from ganatomy.inference.model import Which, load
from ganatomy.metrics.detection import Proportion
from ganatomy.reader_studies.turing import FORMS, KEY, Filter, RaterScore, Scoring, build_test, score_answers, verdict

HELP = """usage: ganatomy turing build RUN --out DIR [--images N] [--raters R] [--filter FILTER] [...]
       ganatomy turing score DIR ANSWERS... [--margin M]

A visual Turing test: can readers tell generated images from real ones? `build` writes an HTML page for each reader
(rater), which works offline, and a key with the right answers, which you keep. Raters answer on their page and send you
the file that it saves; `score` compares these files with the key and prints accuracies, intervals and tests.
`ganatomy turing build --help` and `ganatomy turing score --help` show all options."""


@dataclass
class BuildOptions:
    """Write a page with real and generated images for each rater, and the key with the right answers."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Folder made by `ganatomy train`, of a system that generates images from noise."""
    out: Path
    """Output folder for the pages, the images and the key; it must not exist or must be empty."""
    system: str | None = None
    """Method of RUN as FILE.py:CLASS or MODULE:CLASS, needed only if it is neither built in nor installed.
    A run folder alone never makes ganatomy import code."""
    images: int = 100
    """Number of images, half of them real and half generated; a tenth of them is shown twice."""
    filter: Filter = "none"
    """Filter applied to all images alike, so that traces of up-sampling do not reveal the generated ones."""
    seed: int = 0
    """Seed for the choice of images; their names and order are drawn anew whenever a test is built."""
    raters: int = 1
    """Number of raters; each gets a page with the images in an order of its own."""
    which: Which = "best"
    """Weights to use: those with the best validation score, or the last."""
    secret: Path | None = None
    """File with the secret that was used in training, to recognise the test subjects; none means your own."""
    device: str = "auto"
    """Device on which the network runs: cpu, cuda, or auto."""


@dataclass
class ScoreOptions:
    """Compare raters' answers with the key, and print how well they did."""

    folder: Positional[Annotated[Path, arg(metavar="DIR")]]
    """Folder made by `ganatomy turing build`."""
    answers: Positional[Annotated[tuple[Path, ...], arg(metavar="ANSWERS")]]
    """CSV or JSON files saved by the pages, one per rater."""
    margin: float = 0.1
    """Equivalence margin: largest distance of the accuracy from 0.5 that still counts as guessing."""


def run(arguments: Sequence[str]) -> int:
    """Build a visual Turing test, or score it."""
    action = leading(arguments, "turing", "word build or score", "turing build|score ...", HELP)
    match action:
        case None:
            return 0
        case "build":
            return build(arguments[1:])
        case "score":
            return score(arguments[1:])
    raise UserError(f"turing {action}: unknown; there are build and score (see ganatomy turing --help)")


def build(arguments: Sequence[str]) -> int:
    """Write the forms and the key of a visual Turing test, and print their paths."""
    options = parse(BuildOptions, arguments, "ganatomy turing build")
    model = load(options.run, options.which, options.device, options.system)
    forms = build_test(
        model,
        options.out,
        options.images,
        options.filter,
        options.seed,
        options.raters,
        options.which,
        options.secret,
    )
    for path in forms:
        print(path)
    print(
        f"{options.out / KEY}: the key, which you keep; give each rater only a page from {FORMS}. "
        f"Then: ganatomy turing score {options.out} ANSWERS..."
    )
    return 0


def score(arguments: Sequence[str]) -> int:
    """Score the raters' answers and print the results."""
    options = parse(ScoreOptions, arguments, "ganatomy turing score")
    if not 0 < options.margin < 0.5:
        raise UserError(f"--margin {options.margin}: give a number between 0 and 0.5, such as 0.1")
    show(score_answers(options.folder, options.answers), options.margin)
    return 0


def show(scoring: Scoring, margin: float) -> None:
    """Print a table of scores, the verdict for each rater, and the agreement between raters."""
    console = Console(highlight=False)
    table = Table("", *[escape(score.rater) for score in scoring.raters])
    for name, cells in zip(ROWS, zip(*map(_cells, scoring.raters), strict=True), strict=True):
        table.add_row(name, *cells)
    console.print(table)
    for score in scoring.raters:
        console.print(f"{score.rater}: {verdict(score.test, margin)}", markup=False)
    if scoring.kappa is not None:
        kappa = "undefined, as all gave one answer" if isnan(scoring.kappa) else f"{scoring.kappa:.2f}"
        console.print(
            f"Agreement between raters on single images, beyond chance: kappa {kappa}. Every rater is a separate test: "
            "of twenty raters who guess, about one comes out below p = 0.05."
        )
    numbers = ", ".join(f"{name} {value}" for name, value in scoring.key.get("filter", {}).items() if name != "name")
    shown = scoring.key.get("filter", {}).get("name", "unknown")
    console.print(
        f"Shown through filter {shown}{f' ({numbers})' if numbers else ''}; {scoring.key.get('shown', '')}.",
        markup=False,
    )


ROWS = (
    "accuracy, with 95 % Wilson interval",
    "p (exact, against one half)",
    "TRR: real images called real",
    "FRR: generated images called real",
    "d'",
    "AUC of the confidence",
    "same answer when shown twice",
    "median time per answer",
)


def _cells(score: RaterScore) -> tuple[str, ...]:
    test = score.test
    return (
        _proportion(test.accuracy),
        f"{test.p:.2g}",
        _proportion(test.recognised),
        _proportion(test.fooled),
        f"{test.d_prime:.2f}",
        f"{score.area:.2f}",
        f"{score.steady.count} of {score.steady.total}",
        f"{score.seconds:.1f} s",
    )


def _proportion(part: Proportion) -> str:
    low, high = part.interval
    return f"{part.value:.2f} ({low:.2f} to {high:.2f})"
