"""Anomalies found by a model of healthy images."""
