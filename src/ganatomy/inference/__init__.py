"""Trained methods on real images: loading, tiling in bounded memory, applying to files."""
