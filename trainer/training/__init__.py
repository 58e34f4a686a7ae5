"""The loop and what it is made of. How a config becomes its parts belongs in `runs`."""
