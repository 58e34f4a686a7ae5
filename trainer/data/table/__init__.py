"""Tables: files to typed columns, splits and inputs. The keys of `data=csv` belong in `config/table.py`."""
