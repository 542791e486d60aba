"""Enqueuing tasks at given times, again and again."""
