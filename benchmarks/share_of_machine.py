"""Say how near training rounds come to the rate of matrix multiplication, and where the rest of the time goes.

The first table counts the operations of matrix products and convolutions in a round, forwards and backwards, and times
rounds of the trainer in turns with a matrix product of the same data type, so that other load on the machine affects
both. A share above 1 is possible where convolutions are computed with fewer operations than counted. The second table
trains on an embedded phantom and says which share of the wall time went into which part.

python benchmarks/share_of_machine.py [--systems dcgan pix2pix] [--presets paper small] [--precisions 32 bf16]
"""

import argparse
import csv
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from lightning_fabric import Fabric
from side_by_side import interleaved, machine
from torch.utils.flop_counter import FlopCounterMode
from training_round import Fixed

import ganatomy
from ganatomy import catalogue
from ganatomy.game import Method
from ganatomy.inference.model import build
from ganatomy.training.loop import Trainer
from ganatomy.training.monitor import Monitor
from ganatomy.training.shapes import example_batches

SYSTEMS = ("dcgan", "wgan-gp", "pix2pix", "cyclegan", "wgan-vgg")
PRECISIONS = {"32": ("32-true", torch.float32), "bf16": ("bf16-mixed", torch.bfloat16)}
"""Word on the command line to the precision of training and the data type of the matrix product."""
SIDE = 1024
"""Rows and columns of the matrices that are multiplied."""
PARTS = ("data", "forward", "backward", "step")
"""Parts of a round, as they are called in metrics.csv."""
REST, VALIDATION, KERNELS = "rest", "validation", "kernels"
"""Other columns of the second table; kernels are forward, backward and step together."""


def round_of(method: Method, precision: str) -> Callable[[], None]:
    """Return a function that plays one round of a method's last stage with the trainer, on one batch in memory."""

    def nothing(trainer: Trainer, ending: bool) -> None: ...

    stage = method.stages()[-1]
    trainer = Trainer(
        method,
        Fabric(accelerator="cpu", devices=1, precision=precision),  # type: ignore[arg-type]
        [10**9] * len(method.stages()),
        lambda *_: Fixed(next(example_batches(method, stage))),
        Monitor(None),
        nothing,
    )
    trainer.index = len(trainer.stages) - 1
    trainer._enter(stage)
    return trainer._play_round


def operations(play: Callable[[], object]) -> int:
    """Return the floating-point operations of the matrix products and convolutions of a function."""
    counter = FlopCounterMode(display=False)
    with counter:
        play()
    return counter.get_total_flops()


def product(kind: torch.dtype) -> Callable[[], object]:
    """Return a function that multiplies two matrices of `SIDE` rows and columns."""
    left, right = (torch.randn(SIDE, SIDE).to(kind) for _ in range(2))
    return lambda: left @ right


def shares(systems: Sequence[str], presets: Sequence[str], precisions: Sequence[str], repeats: int) -> None:
    """Print the first table."""
    print("| system | preset | precision | GFLOP a round | GFLOP/s | of the matrix product's | middle half |")
    print("|---|---|---|---|---|---|---|")
    for slug in systems:
        for preset in presets:
            for word in precisions:
                precision, kind = PRECISIONS[word]
                torch.manual_seed(0)
                config = catalogue.resolve(slug).cls.Config.preset(preset)
                play, multiply = round_of(build(slug, config.model_dump(exclude_unset=True)), precision), product(kind)
                work = operations(play)
                times = interleaved({"round": play, "product": multiply}, repeats, warm=1)
                rates = [work / seconds / 1e9 for seconds in times["round"]]
                limit = statistics.median(2 * SIDE**3 / seconds / 1e9 for seconds in times["product"])
                low, middle, high = (rate / limit for rate in statistics.quantiles(rates, n=4))
                print(
                    f"| {slug} | {preset} | {word} | {work / 1e9:.1f} | {statistics.median(rates):.0f} "
                    f"| {middle:.2f} | {low:.2f} to {high:.2f} |",
                    flush=True,
                )


def parts_of(path: Path, wall: float) -> dict[str, float]:
    """Return which share of the wall time of a training went into which part, from the curves of its run.

    Parts of rounds are measured in some rounds only, and scaled to all.

    Args:
        path: ``metrics.csv`` of the run.
        wall: seconds from the first round to the end.
    """
    spent: dict[str, float] = defaultdict(float)
    timed: set[str] = set()
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    rounds = max(int(row[0]) for row in rows)
    for number, *_, measure, value in rows:
        kind, _, name = measure.partition("/")
        if kind == "seconds":
            part = name.split(" of ")[0]
            spent[part] += float(value)
            timed |= {number} if part in PARTS else set()
    found = {part: spent[part] * rounds / max(len(timed), 1) / wall for part in PARTS}
    found[VALIDATION] = spent[VALIDATION] / wall
    found[REST] = max(0.0, 1 - sum(found.values()))
    found[KERNELS] = sum(found[part] for part in PARTS[1:])
    return found


@contextmanager
def fit_timed() -> Iterator[list[float]]:
    """Collect the seconds from the first round to the last of trainings, without the preparation of cases."""
    seconds: list[float] = []
    fit = Trainer.fit

    def timed(trainer: Trainer) -> None:
        begun = time.perf_counter()
        fit(trainer)
        seconds.append(time.perf_counter() - begun)

    with patch.object(Trainer, "fit", timed):
        yield seconds


def wall_times(systems: Sequence[str], rounds: int) -> None:
    """Print the second table, of the presets ``small``."""
    names = [*PARTS, VALIDATION, REST, KERNELS]
    print("| system | rounds | " + " | ".join(names) + " |")
    print("|---" * (2 + len(names)) + "|")
    for slug in systems:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            with fit_timed() as seconds:
                ganatomy.train(slug, out=out, preset="small", rounds=rounds, seed=0, threads=1)
            found = parts_of(out / "metrics.csv", sum(seconds))
        print(f"| {slug} | {rounds} | " + " | ".join(f"{found[name]:.0%}" for name in names) + " |", flush=True)


def main(arguments: Sequence[str] = ()) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS)
    parser.add_argument("--presets", nargs="+", default=("paper", "small"))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=tuple(PRECISIONS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    print(f"Share of the machine, {machine().removesuffix(', fp32')}, median of {options.repeats} repeats\n")
    shares(options.systems, options.presets, options.precisions, options.repeats)
    print("\nWall time of training on a phantom, presets small, with validation and diagnostics\n")
    wall_times(options.systems, options.rounds)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
