"""Images sampled from noise."""
