"""All benchmarks, one after the other; prints the tables of docs/results/benchmarks.md."""

import anogan_search
import apply_volume
import frameworks_round
import reconstruction
import startup
import training_round


def main() -> None:
    for benchmark in (startup, apply_volume, training_round, frameworks_round, anogan_search, reconstruction):
        benchmark.main()
        print()


if __name__ == "__main__":
    main()
