"""Classification: a class for every case, or for every slice of it, with calibrated probabilities."""
