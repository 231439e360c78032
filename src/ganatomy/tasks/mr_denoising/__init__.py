"""Denoising of MR slices of the head."""
