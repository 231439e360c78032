"""Denoising of low-dose CT."""
