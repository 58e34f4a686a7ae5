"""The datasets that are not tables, one a file. Their keys belong in `config`."""
