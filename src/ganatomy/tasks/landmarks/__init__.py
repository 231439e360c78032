"""Landmarks: named points that are found in a volume."""
