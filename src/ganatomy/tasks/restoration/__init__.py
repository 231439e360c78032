"""Image-to-image tasks: their common base class, predictor and judge."""
