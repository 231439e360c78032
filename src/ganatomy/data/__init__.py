"""Data sets from files and phantoms: manifests, splits, prepared cases on disk, and batches of patches."""
