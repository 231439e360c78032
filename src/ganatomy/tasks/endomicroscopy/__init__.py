"""Endomicroscopy frames, seen through a bundle of fibres, to finer ones."""
