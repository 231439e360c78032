"""Run all benchmarks one after the other, and print the tables of docs/results/benchmarks.md."""

import anogan_search
import apply_volume
import frameworks_round
import projectors
import reconstruction
import segmentation_volume
import share_of_machine
import startup
import training_round


def main() -> None:
    """Run every benchmark with its default number of repeats."""
    for benchmark in (
        startup,
        apply_volume,
        training_round,
        frameworks_round,
        anogan_search,
        reconstruction,
        segmentation_volume,
        projectors,
        share_of_machine,
    ):
        benchmark.main()
        print()


if __name__ == "__main__":
    main()
