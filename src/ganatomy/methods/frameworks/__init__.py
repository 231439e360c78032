"""Base frameworks of the survey's section 3."""
