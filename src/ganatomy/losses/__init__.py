"""Loss functions of tensors that return a scalar to be minimised, with an explicit reduction."""
