"""Claims of the papers, one module per section of the survey, written down before they were tested."""
