"""Several trainings compared with each other."""
