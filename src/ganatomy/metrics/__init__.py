"""Pure functions of arrays: scores of images, masks, points, sets and decisions, and statistics over patients."""
