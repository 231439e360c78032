"""How images come to be: dose and projections in CT, and the other measurement processes."""
