"""Medical images as they are: one `Image` type, its files and its intensity codecs."""
