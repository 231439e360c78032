"""Synthesis of vessel geometry: centre-lines with radii, sampled from noise."""
