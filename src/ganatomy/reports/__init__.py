"""Presentation of results: figures, training curves, tables, and HTML reports."""
