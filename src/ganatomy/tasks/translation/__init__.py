"""Translation of images from one contrast or modality to another."""
