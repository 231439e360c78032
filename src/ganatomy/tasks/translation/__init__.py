"""Images of one contrast or modality to another."""
