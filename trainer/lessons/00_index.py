"""The lessons, one line each; with a number or a name, run one. The same as `trainer learn`."""

import sys

from trainer import cli

if __name__ == "__main__":
    sys.exit(cli.run("learn", sys.argv[1:]))
