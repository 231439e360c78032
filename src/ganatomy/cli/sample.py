"""``ganatomy sample RUN``."""

import dataclasses
import logging
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from ganatomy.cli.options import leading, named_system, parse, peek, peek_all
from ganatomy.inference.model import Which, build_run, load
from ganatomy.inference.predictor import predictor_class
from ganatomy.inference.runfile import read_run
from ganatomy.inference.sampling import (
    LIST,
    NOTE,
    Format,
    conditions_of,
    opened_conditions,
    sampling_ability,
    write_samples,
)
from ganatomy.reports import terminal

log = logging.getLogger(__name__)

HELP = """usage: ganatomy sample RUN --out DIR [-n N] [--seed SEED] [--given NAME=FILE ...] [...]

Generates synthetic samples with a trained run whose system generates from noise: images, or for some systems other data
such as vessel geometry, in physical units. Every sample has its own seed and one file for each of its images.
Systems that sample for a condition, such as the pose of a probe, are given it with --given pose=poses.csv. Beside
them lie samples.csv, a list of the files, and synthetic.json, which marks them as synthetic and names the run.
`ganatomy sample RUN --help` shows all options, including those of the run's system."""


@dataclasses.dataclass
class Choice:
    """Number of samples, output folder and format."""

    out: Path
    """Output folder for the files."""
    n: Annotated[int, arg(aliases=["-n"])] = 16
    """Number of samples."""
    seed: int = 0
    """Seed of the first sample; each further one has the next seed. A sample depends on its own seed alone."""
    given: tuple[str, ...] = ()
    """NAME=FILE of every condition that samples are made for, such as pose=poses.csv, for systems that take any. Of
    several poses, each sample is a series of frames."""
    system: str | None = None
    """Method of RUN as FILE.py:CLASS or MODULE:CLASS, needed only if it is neither built in nor installed.
    A run folder alone never makes ganatomy import code."""
    ability: str | None = None
    """Task to carry out, for systems that can do several; none means the first that needs no other input."""
    which: Which = "best"
    """Weights to use: those with the best validation score, or the last."""
    format: Format | None = None
    """Format of the images; none means PNG for 8-bit pictures, else NIfTI."""
    overwrite: bool = False
    """Replace existing files."""
    device: str = "auto"
    """Device on which the network runs: cpu, cuda, or auto."""


def run(arguments: Sequence[str]) -> int:
    """Generate synthetic samples and print the paths of their files."""
    named = leading(arguments, "sample", "run", "sample RUN --out DIR", HELP)
    if named is None:
        return 0
    folder = Path(named)
    options = read_options(folder, arguments[1:])
    choice: Choice = options.general
    model = load(folder, choice.which, choice.device, choice.system)
    console = terminal.console(True)
    with terminal.bar(console, unit="samples", transient=True) as progress:
        task = progress.add_task("sampling", total=max(choice.n, 0))
        done, clock = count(1), terminal.Clock()

        def advance() -> None:
            progress.advance(task)
            if (number := next(done)) and not console.is_terminal and clock.tells(number, choice.n):
                log.info("%d of %d samples done", number, choice.n)

        files = write_samples(
            model,
            choice.out,
            choice.n,
            seed=choice.seed,
            given=opened_conditions(choice.given, model.method),
            ability=choice.ability,
            options=options.sampling.model_dump(),
            which=choice.which,
            format=choice.format,
            overwrite=choice.overwrite,
            advance=advance,
        )
    for file in files:
        print(file)
    print(f"{choice.out / NOTE}: marks these files as synthetic and names the run; {LIST} lists them")
    return 0


def read_options(folder: Path, arguments: Sequence[str]) -> Any:
    """Parse all options, including those that the predictor of the run adds."""
    method = build_run(folder, read_run(folder), named_system(arguments))
    texts, wanted = peek_all(arguments, "given").get("given", []), peek(arguments, "ability").get("ability")
    # Help is for those, too, who do not know yet what there is to give.
    asked = not texts and {"--help", "-h"} & set(arguments)
    given = conditions_of(method) if asked else opened_conditions(texts, method)
    ability = sampling_ability(method, wanted, given)
    own = predictor_class(method.task, ability).Options
    kind = dataclasses.make_dataclass(
        "Options",
        [("general", Choice), ("sampling", own)],
        namespace={"__doc__": "Generate synthetic samples with a trained run, in physical units."},
    )
    default = kind(Choice(out=tyro.MISSING), own())
    return parse(kind, arguments, f"ganatomy sample {folder}", default)
