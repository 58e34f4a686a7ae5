"""Downloads, caches and arrays in files. What they mean belongs in `datasets`, `images` and `table`."""
