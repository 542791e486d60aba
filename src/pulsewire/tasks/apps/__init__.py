"""Typed functions as tasks, and the processes that run them."""
