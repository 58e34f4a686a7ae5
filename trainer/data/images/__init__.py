"""From image files to pixels, their augmentation and normalisation. Datasets of images belong in `datasets`."""
