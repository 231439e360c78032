"""One file per published system, by section of the survey."""
