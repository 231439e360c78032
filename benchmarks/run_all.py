"""All benchmarks, one after the other; prints the tables of docs/results/benchmarks.md."""

import apply_volume
import startup
import training_round


def main() -> None:
    for benchmark in (startup, apply_volume, training_round):
        benchmark.main()
        print()


if __name__ == "__main__":
    main()
