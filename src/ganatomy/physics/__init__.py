"""Image formation: CT projection and dose, MR encoding and undersampling, fibre bundles, resolution, centre-lines."""
