"""What an image is worth against its reference: pure functions of arrays in physical units."""
