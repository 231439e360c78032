"""Coarse images and volumes to finer ones."""
