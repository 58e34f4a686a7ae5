"""The keys of a run, one file for each group of `conf/`. Nothing here imports torch or builds a part."""
