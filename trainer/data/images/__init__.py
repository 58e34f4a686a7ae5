"""Image files to pixels, and pixels varied and normalised. Datasets of images belong in `datasets`."""
