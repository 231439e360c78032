"""``ganatomy turing build RUN`` and ``ganatomy turing score DIR ANSWERS...``."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from ganatomy.cli.options import leading, parse
from ganatomy.errors import UserError
from ganatomy.inference.model import Which, load
from ganatomy.metrics.detection import Proportion
from ganatomy.reader_studies.turing import FORMS, KEY, Filter, RaterScore, Scoring, build_test, score_answers, verdict

HELP = """usage: ganatomy turing build RUN --out DIR [--images N] [--raters R] [--filter FILTER] [...]
       ganatomy turing score DIR ANSWERS... [--margin M]

Can people tell generated images from real ones? `build` writes a page per rater, which works without a network, and a
key that stays with you; `score` holds the answers that the raters saved against the key. `ganatomy turing build --help`
and `ganatomy turing score --help` show all options."""


@dataclass
class BuildOptions:
    """Write a page per rater with real and generated images, and the key to it."""

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Folder made by `ganatomy train`, of a system that makes images from noise."""
    out: Path
    """Folder for the pages, the images and the key; must not exist yet, or be empty."""
    system: str | None = None
    """Of RUN, named again where it is a method from outside that no installed package has registered: FILE.py:CLASS or
    MODULE:CLASS. RUN alone imports nothing."""
    images: int = 100
    """Real and generated ones together, half of each; a tenth is shown twice."""
    filter: Filter = "none"
    """What all images are shown through, so that traces of up-sampling give nothing away."""
    seed: int = 0
    """Of the choice of images, their names and the order for each rater; raters should not know it."""
    raters: int = 1
    """Number of pages, each in an order of its own."""
    which: Which = "best"
    """Weights: the best on the validation data, or the last."""
    secret: Path | None = None
    """File with the secret of who trained the run, by which its test subjects are recognised; none means your own."""
    device: str = "auto"
    """cpu, cuda, or auto."""


@dataclass
class ScoreOptions:
    """Hold raters' answers against the key."""

    folder: Positional[Annotated[Path, arg(metavar="DIR")]]
    """Folder made by `ganatomy turing build`."""
    answers: Positional[Annotated[tuple[Path, ...], arg(metavar="ANSWERS")]]
    """CSV or JSON files that the pages saved, one per rater."""
    margin: float = 0.1
    """Distance of an accuracy from one half that would not matter."""


def run(arguments: Sequence[str]) -> int:
    """Build a test or score it."""
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
    """Write forms and key."""
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
        f"{options.out / KEY}: the key; give raters their page from {FORMS} alone. "
        f"Then: ganatomy turing score {options.out} ANSWERS..."
    )
    return 0


def score(arguments: Sequence[str]) -> int:
    """Print how the raters did."""
    options = parse(ScoreOptions, arguments, "ganatomy turing score")
    if not 0 < options.margin < 0.5:
        raise UserError(f"--margin {options.margin}: give a number between 0 and 0.5, such as 0.1")
    show(score_answers(options.folder, options.answers), options.margin)
    return 0


def show(scoring: Scoring, margin: float) -> None:
    """A table, what it means for each rater, and how far they agree."""
    console = Console(highlight=False)
    table = Table("", *[score.rater for score in scoring.raters])
    for name, cells in zip(ROWS, zip(*map(_cells, scoring.raters), strict=True), strict=True):
        table.add_row(name, *cells)
    console.print(table)
    for score in scoring.raters:
        console.print(f"{score.rater}: {verdict(score.test, margin)}")
    if scoring.kappa is not None:
        kappa = "undefined, as all gave one answer" if isnan(scoring.kappa) else f"{scoring.kappa:.2f}"
        console.print(
            f"Agreement of the raters on single images, beyond chance: kappa {kappa}. Several raters are several "
            "tests: one of twenty who guess comes out below p = 0.05."
        )
    numbers = ", ".join(f"{name} {value}" for name, value in scoring.key.get("filter", {}).items() if name != "name")
    shown = scoring.key.get("filter", {}).get("name", "unknown")
    console.print(f"Shown through filter {shown}{f' ({numbers})' if numbers else ''}; {scoring.key.get('shown', '')}.")


ROWS = (
    "accuracy, with 95 % Wilson interval",
    "p (exact, against one half)",
    "TRR: real ones called real",
    "FRR: generated ones called real",
    "d'",
    "AUC of the confidence",
    "same answer the second time",
    "median time",
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
