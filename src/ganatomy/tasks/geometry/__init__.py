"""Geometry of vessels: centre-lines with radii, made from noise."""
