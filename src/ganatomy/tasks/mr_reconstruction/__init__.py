"""Reconstruction of undersampled MR."""
