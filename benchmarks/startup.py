"""Time the start of the command line in fresh processes."""

import statistics
import subprocess
import sys
import time


def seconds(*arguments: str) -> float:
    """Return the time that a command takes in a fresh process, in seconds."""
    command = "import sys; from ganatomy.cli import main; sys.exit(main(sys.argv[1:]))"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", command, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main(repeats: int = 20) -> None:
    """Print the median time of `ganatomy --help` and `ganatomy list`."""
    print(f"Start-up in fresh processes, median of {repeats}\n\n| command | seconds | goal | |\n|---|---|---|---|")
    for arguments in (("--help",), ("list",)):
        median = statistics.median(seconds(*arguments) for _ in range(repeats))
        verdict = "met" if median < 0.7 else "missed"
        print(f"| `ganatomy {' '.join(arguments)}` | {median:.2f} | 0.70 | {verdict} |", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
