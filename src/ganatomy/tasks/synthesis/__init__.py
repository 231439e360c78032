"""Synthesis of images from noise."""
