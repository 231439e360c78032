"""The loop, checkpoints, monitoring, diagnostics."""
