"""Inference: loading of trained runs, predictors, tiling in bounded memory, and application to files."""
