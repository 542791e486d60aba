"""Floor 0: plain Python that knows nothing of Redis."""
