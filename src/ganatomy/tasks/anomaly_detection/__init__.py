"""Anomaly detection with models of healthy images."""
