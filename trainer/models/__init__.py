"""The networks, one a file, each with its builder. Their keys belong in `config/model.py`."""
