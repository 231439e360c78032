"""What tasks that turn one image into another have in common."""
