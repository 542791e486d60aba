"""Running tasks: a server and its duties."""
