"""What a sample, a score and a picture are, for each kind of task."""
