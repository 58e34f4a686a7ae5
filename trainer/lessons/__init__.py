"""The runnable lessons, scripts that start by path. They use everything; nothing in the package uses them."""
