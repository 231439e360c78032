"""Training: the loop, runs with their checkpoints, monitoring, diagnostics, and series of runs."""
