"""Undersampled MR to images of complete scans."""
