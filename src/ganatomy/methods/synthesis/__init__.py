"""Synthesis (survey section 4.6): images from noise, and from images of another kind."""
