"""Claims of the papers, and the test of a claim."""
