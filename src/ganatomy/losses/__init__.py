"""Pure functions: tensors in, scalar out, reduction explicit."""
