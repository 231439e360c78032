"""Kill commands at random moments, run them again, and compare the results bit for bit with uninterrupted ones.

    python scripts/kill_test.py --times 20
    python scripts/kill_test.py --times 5 --only detector evaluate

Trainings are killed and resumed: half of the kills wait until a file of the run is being replaced, so that they
interrupt the writing of a checkpoint. `apply`, `evaluate` and `sample` are killed and repeated: what a kill leaves must
be whole files, and for an evaluation the old or the new one as a whole. After a last kill of a training on a folder of
images, a file of that folder is replaced: resuming must be refused and must leave the run as it was. The exit code is 0
when all results are equal, and 1 when something differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ganatomy.images.files import write
from ganatomy.images.image import Image

POLL = 0.0005
"""Time between two looks at the files of the run, in seconds."""
WRITES = 30
"""Longest time to wait for a file being written before the kill, in seconds."""
TOYS = Path(__file__).parents[1] / "tests" / "training" / "test_derive.py"
"""File of a toy system whose second stage learns from what the first one has derived."""
BRAIN = ("--phantom-subjects", "4", "--phantom-size", "64")
TRAININGS = {
    "game": (
        *("wgan-vgg", "--preset", "small", "--batch-size", "2", "--patch", "32"),
        *("--phantom-subjects", "4", "--phantom-size", "96", "--views", "60"),
    ),
    "staged": (
        *("csmri-refinement", "--preset", "small", *BRAIN, "--size", "32", "32", "--batch-size", "2"),
        *("--refinement-batch-size", "2", "--widths", "4", "8", "--discriminator-widths", "4", "8"),
    ),
    "derived": (f"{TOYS}:Cascade", "--phantom-subjects", "4", "--phantom-size", "96"),
    "volumes": (
        *("srgan3d-brain", "--preset", "small", *BRAIN, "--batch-size", "2", "--patch-shape", "12", "16", "16"),
        *("--width", "4", "--blocks", "1", "--wide", "4", "--discriminator-width", "4", "--discriminator-dense", "4"),
    ),
    "detector": (
        *("anovaegan", "--preset", "small", "--size", "32", "32", "--width", "4", "--widest", "8", "--batch-size", "2"),
        *("--phantom-subjects", "6", "--phantom-size", "64"),
    ),
    "generator": (
        *("gan", "--preset", "small", "--size", "16", "16", "--hidden", "16", "--units", "8", "--batch-size", "4"),
        *("--phantom-subjects", "6", "--phantom-size", "64"),
    ),
}
"""Name of a training to its system and options."""
OFTEN = ("--validate-every", "5", "--validation-slices", "2", "--log-every", "3", "--threads", "1")
COMMANDS = ("apply", "evaluate", "sample", "changed")
"""Killed commands other than trainings, and the training on a folder that changes."""


def ganatomy(*words: str | Path) -> list[str]:
    """Return the command line of a command of ganatomy."""
    return [sys.executable, "-m", "ganatomy", *map(str, words)]


def training(name: str, out: Path, cache: Path, rounds: int) -> list[str]:
    """Return the command that trains a small system into ``out``, validating every fifth round."""
    return ganatomy("train", *TRAININGS[name], *OFTEN, "--rounds", str(rounds), "--out", out, "--cache", cache)


def silent(words: Sequence[str], check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its messages are printed where it must succeed and does not."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return done


def being_written(out: Path) -> bool:
    """Return whether a file of the run is being replaced: its temporary file exists."""
    return any(path.name.endswith(".part") for folder in (out, out / "checkpoints") for path in folder.glob(".*"))


def kill(process: subprocess.Popen[bytes], out: Path, dice: random.Random, in_writing: bool) -> bool:
    """Kill a training process at a random moment after its next checkpoint.

    Args:
        process: the training process.
        out: run folder.
        dice: source of the random moment.
        in_writing: wait until a file of the run is being written.

    Returns:
        Whether a file was being written when the process was killed.
    """
    began = time.monotonic()
    checkpoint = out / "checkpoints" / "last.ckpt"
    known = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
    while process.poll() is None and known == (checkpoint.stat().st_mtime_ns if checkpoint.exists() else None):
        time.sleep(POLL)
    time.sleep(dice.uniform(0, 0.2))
    while in_writing and process.poll() is None and not being_written(out) and time.monotonic() - began < WRITES:
        time.sleep(POLL)
    met = being_written(out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return met


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of weights, states and files that differ between two runs."""
    found = []
    for name in ("weights.safetensors", "weights-last.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        found += [f"{name}: {key}" for key in a.keys() | b.keys() if key not in a or key not in b]
        found += [f"{name}: {key}" for key in a.keys() & b.keys() if not torch.equal(a[key], b[key])]
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other)]
    found += [name for name in ("progress", "drawn", "best", "stage") if states[0][name] != states[1][name]]
    found += [name for name in ("random", "noise") if not torch.equal(states[0][name], states[1][name])]
    curves = [
        [line for line in (run / "metrics.csv").read_text().splitlines() if ",seconds/" not in line]
        for run in (one, other)
    ]
    if curves[0] != curves[1]:
        found.append("metrics.csv")
    derived = [{path.name: path.read_bytes() for path in (run / "derived").rglob("*.npy")} for run in (one, other)]
    if derived[0] != derived[1]:
        found.append("derived")
    return found


def killed_training(name: str, folder: Path, cache: Path, times: int, dice: random.Random) -> tuple[str, bool]:
    """Kill and resume a training, and return the result in words and whether it is as it should be."""
    whole, out, hits, in_writing = folder / "whole", folder / "killed", 0, 0
    rounds = 20 + 15 * times
    silent(training(name, whole, cache, rounds))
    for number in range(times):
        begun = (out / "run.yaml").exists()
        words = resumed(name, out, cache) if begun else training(name, out, cache, rounds)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        in_writing += kill(process, out, dice, in_writing=number % 2 == 0)
        hits += process.returncode == -signal.SIGKILL
    silent(resumed(name, out, cache))
    found = differences(whole, out)
    verdict = f"DIFFERENT in {', '.join(found)}" if found else "equal, bit for bit"
    told = f"{hits} kills ({in_writing} while a file was being written), {rounds} rounds: {verdict}"
    return told, not found and hits == times


def resumed(name: str, out: Path, cache: Path) -> list[str]:
    """Return the command that resumes a training."""
    return ganatomy("train", TRAININGS[name][0], "--out", out, "--resume", "--cache", cache)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by path, without hidden ones, which are temporary."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    inner = {path: path.relative_to(folder) for path in paths}
    return {
        str(name): path.read_bytes()
        for path, name in inner.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def killed_command(
    words: Sequence[str],
    out: Path,
    times: int,
    dice: random.Random,
    before: Callable[[], object],
    sound: Callable[[dict[str, bytes], dict[str, bytes]], bool],
) -> tuple[str, bool]:
    """Kill and repeat a command, and return the result in words and whether it is as it should be.

    Args:
        words: the command line.
        out: folder of its results.
        times: number of kills.
        dice: source of the random moments.
        before: brings the folder to the state before the command.
        sound: tells from what a kill left, and from the files of an uninterrupted command, whether all is well.
    """
    before()
    began = time.monotonic()
    silent(words)
    lasted, whole, wrong, hits = time.monotonic() - began, contents(out), [], 0
    for number in range(times):
        before()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The first half of a command is spent on starting and reading, so most kills fall into the second.
        time.sleep(lasted * dice.uniform(0.4, 1.0))
        process.send_signal(signal.SIGKILL)
        hits += process.wait() == -signal.SIGKILL
        if not sound(contents(out), whole):
            wrong.append(f"kill {number} left {', '.join(sorted(contents(out))) or 'nothing'}")
        silent(words)
        if contents(out) != whole:
            wrong.append(f"repeated after kill {number}")
    verdict = f"WRONG: {'; '.join(wrong)}" if wrong else "what is left is whole, repeated results are equal"
    return f"{hits} kills: {verdict}", not wrong


def some_of(left: dict[str, bytes], whole: dict[str, bytes]) -> bool:
    """Return whether all files that are left equal those of an uninterrupted command, lists and notes aside."""
    notes = (".json", ".csv")
    return all(name.endswith(notes) or whole.get(name) == data for name, data in left.items())


def killed_apply(folder: Path, cache: Path, times: int, dice: random.Random) -> tuple[str, bool]:
    """Kill and repeat the application of a denoiser to a folder of three volumes."""
    run, given, out = folder / "run", folder / "given", folder / "out"
    silent(training("game", run, cache, 2))
    values = np.random.default_rng(0).normal(0, 200, (4, 96, 96)).round().astype(np.int16)
    for number in range(3):
        write(given / f"scan{number}.nii.gz", Image.from_array(values + number, (3.0, 0.8, 0.7), "HU"))
    words = ganatomy("apply", run, given, "--out", out, "--overwrite")
    return killed_command(words, out, times, dice, lambda: shutil.rmtree(out, ignore_errors=True), some_of)


def killed_sample(folder: Path, cache: Path, times: int, dice: random.Random) -> tuple[str, bool]:
    """Kill and repeat the generation of 200 images."""
    run, out = folder / "run", folder / "out"
    silent(training("generator", run, cache, 2))
    words = ganatomy("sample", run, "-n", "200", "--out", out, "--overwrite")
    return killed_command(words, out, times, dice, lambda: shutil.rmtree(out, ignore_errors=True), some_of)


def killed_evaluate(folder: Path, cache: Path, times: int, dice: random.Random) -> tuple[str, bool]:
    """Kill and repeat an evaluation in place of an older one, of other weights."""
    run, old = folder / "run", folder / "old"
    out = run / "evaluation"
    silent(training("game", run, cache, 4))
    silent(ganatomy("evaluate", run, "--which", "last", "--cache", cache))
    out.rename(old)
    first = contents(old)

    def before() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(old, out)

    words = ganatomy("evaluate", run, "--cache", cache)
    return killed_command(words, out, times, dice, before, lambda left, whole: left in (first, whole))


def changed_data(folder: Path, cache: Path, times: int, dice: random.Random) -> tuple[str, bool]:
    """Kill a training on a folder, replace one of its files, and check that resuming is refused and changes nothing."""
    wrong = []
    for number in range(times):
        images, out = folder / f"images{number}", folder / f"run{number}"
        for patient in range(6):
            values = np.random.default_rng(patient).normal(0, 200, (3, 96, 96)).round().astype(np.int16)
            write(images / f"patient{patient}" / "scan.nii.gz", Image.from_array(values, (3.0, 0.8, 0.7), "HU"))
        words = [*training("game", out, cache, 200), "--data", str(images)]
        words = [word for word in words if word not in ("--phantom-subjects", "4", "--phantom-size", "96")]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kill(process, out, dice, in_writing=False)
        patient = dice.randrange(6)
        write(images / f"patient{patient}" / "scan.nii.gz", Image.from_array(-values, (3.0, 0.8, 0.7), "HU"))
        before = contents(out)
        done = silent(resumed("game", out, cache), check=False)
        if done.returncode != 2 or contents(out) != before:
            wrong.append(f"patient {patient}: exit status {done.returncode}, {contents(out) == before}")
    return f"{times} kills: {'WRONG: ' + '; '.join(wrong) if wrong else 'resuming is refused, the run unchanged'}", (
        not wrong
    )


def main() -> int:
    """Kill the commands, print a line for each, and return the exit code."""
    acts = {"apply": killed_apply, "evaluate": killed_evaluate, "sample": killed_sample, "changed": changed_data}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="number of kills of each command")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--only", nargs="+", choices=[*TRAININGS, *acts], default=[*TRAININGS, *acts], help="commands")
    parser.add_argument("--cache", type=Path, help="folder of prepared cases; a temporary one unless given")
    options = parser.parse_args()
    dice, sound = random.Random(options.seed), True
    # The toy system imports its neighbours.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOYS.parent), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as root:
        for name in options.only:
            folder = Path(root) / name
            folder.mkdir()
            cache = options.cache or Path(root) / "cache"
            if name in TRAININGS:
                told, well = killed_training(name, folder, cache, options.times, dice)
            else:
                told, well = acts[name](folder, cache, options.times, dice)
            print(f"{name}: {told}", flush=True)
            sound &= well
    return int(not sound)


if __name__ == "__main__":
    sys.exit(main())
