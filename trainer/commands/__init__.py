"""The verbs of the command line, one a file. Work that two verbs share belongs in `runs`."""
