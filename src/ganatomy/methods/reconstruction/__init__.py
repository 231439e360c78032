"""Reconstruction of images from few measurements."""
