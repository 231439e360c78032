"""Noisy MR slices to clean ones."""
