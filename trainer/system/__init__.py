"""The process and its machine: device, threads, signals, files. Nothing here knows about training."""
