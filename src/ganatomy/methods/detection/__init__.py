"""Systems that find what is not healthy."""
