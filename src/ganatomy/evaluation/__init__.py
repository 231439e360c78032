"""Evaluation of trained methods: which cases are judged, by which scores, and with which verdict."""
