"""Segmentation of one or several aligned images into regions."""
