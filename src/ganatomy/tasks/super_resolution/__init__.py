"""Super-resolution of images and volumes."""
