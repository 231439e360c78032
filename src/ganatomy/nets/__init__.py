"""Network blocks used by several methods."""
