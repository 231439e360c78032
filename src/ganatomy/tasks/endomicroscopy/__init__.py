"""Super-resolution of endomicroscopy frames acquired through a fibre bundle."""
