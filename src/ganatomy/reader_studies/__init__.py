"""Studies with human readers."""
