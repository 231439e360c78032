"""Kill training at random moments, resume it, and compare the result bit for bit with an uninterrupted run.

    python scripts/kill_test.py --times 20

Half of the kills wait until a file of the run is being replaced, so that they interrupt the writing of a checkpoint.
The exit code is 0 when all weights, curves and the state of training are equal, and 1 when something differs.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

POLL = 0.0005
"""Time between two looks at the files of the run, in seconds."""
WRITES = 30
"""Longest time to wait for a file being written before the kill, in seconds."""


def command(out: Path, cache: Path, rounds: int) -> list[str]:
    """Return the command that trains a small system into ``out``, validating every second round."""
    size = ["--phantom-subjects", "4", "--phantom-size", "96", "--views", "60", "--cache", str(cache)]
    game = ["--preset", "small", "--batch-size", "2", "--patch", "32", "--rounds", str(rounds), "--threads", "1"]
    often = ["--validate-every", "2", "--validation-slices", "1", "--log-every", "3"]
    return [sys.executable, "-m", "ganatomy", "train", "wgan-vgg", "--out", str(out), *size, *game, *often]


def being_written(out: Path) -> bool:
    """Return whether a file of the run is being replaced: its temporary file exists."""
    return any(path.name.startswith(".") for folder in (out, out / "checkpoints") for path in folder.glob(".*"))


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
    time.sleep(dice.uniform(0, 0.5))
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
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--cache", type=Path, help="folder of prepared cases; a temporary one unless given")
    options = parser.parse_args()
    dice, hits, in_writing = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        cache, whole, out = options.cache or Path(folder) / "cache", Path(folder) / "whole", Path(folder) / "killed"
        rounds = 20 + 20 * options.times
        subprocess.run(command(whole, cache, rounds), check=True, stdout=subprocess.DEVNULL)
        for number in range(options.times):
            more = ["--resume"] if (out / "run.yaml").exists() else []
            process = subprocess.Popen([*command(out, cache, rounds), *more], stdout=subprocess.DEVNULL)
            in_writing += kill(process, out, dice, in_writing=number % 2 == 0)
            hits += process.returncode == -signal.SIGKILL
        subprocess.run([*command(out, cache, rounds), "--resume"], check=True, stdout=subprocess.DEVNULL)
        found = differences(whole, out)
    verdict = f"DIFFERENT in {', '.join(found)}" if found else "equal, bit for bit"
    print(f"{hits} kills ({in_writing} while a file was being written), {rounds} rounds: {verdict}")
    return int(bool(found) or hits < options.times)


if __name__ == "__main__":
    sys.exit(main())
