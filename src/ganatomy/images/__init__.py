"""The `Image` type, readers and writers of medical image files, intensity codecs, resampling and augmentation."""
