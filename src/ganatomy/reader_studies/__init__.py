"""Studies with human readers: visual Turing tests."""
