"""From files and phantoms to batches: manifests, prepared cases on disk, patch sampling."""
