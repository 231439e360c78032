"""Tasks that turn one image into another: their common base, predictor and judge."""
