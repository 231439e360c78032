"""Kill training at random moments, resume it, and compare its weights with those of an undisturbed run, bit for bit.

    python scripts/kill_test.py --times 20

Half of the kills wait until a file of the run is being replaced, so that they fall into the writing of a checkpoint.
Exit code 0 when every weight, the curves and the state of training are the same, 1 when something differs.
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
WRITES = 30
"""Seconds to wait for a file being written before the kill comes anyway."""


def command(out: Path, cache: Path, rounds: int) -> list[str]:
    size = ["--phantom-subjects", "4", "--phantom-size", "96", "--views", "60", "--cache", str(cache)]
    game = ["--preset", "small", "--batch-size", "2", "--patch", "32", "--rounds", str(rounds), "--threads", "1"]
    often = ["--validate-every", "2", "--validation-slices", "1", "--log-every", "3"]
    return [sys.executable, "-m", "ganatomy", "train", "wgan-vgg", "--out", str(out), *size, *game, *often]


def being_written(out: Path) -> bool:
    """Whether a temporary neighbour of a file of the run exists right now."""
    return any(path.name.startswith(".") for folder in (out, out / "checkpoints") for path in folder.glob(".*"))


def kill(process: subprocess.Popen[bytes], out: Path, dice: random.Random, in_writing: bool) -> bool:
    """Send SIGKILL at a random moment after the first checkpoint; whether it met the process alive, and in writing."""
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
    parser.add_argument("--times", type=int, default=20, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--cache", type=Path, help="prepared cases; a temporary folder unless given")
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
    verdict = f"DIFFERENT in {', '.join(found)}" if found else "the same, bit for bit"
    print(f"{hits} kills ({in_writing} while a file was being written), {rounds} rounds: {verdict}")
    return int(bool(found) or hits < options.times)


if __name__ == "__main__":
    sys.exit(main())
