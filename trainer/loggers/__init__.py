"""Where records go, one logger a file. A logger sees records only and cannot touch the run."""
