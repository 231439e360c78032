"""Studies that compare several trainings with each other."""
