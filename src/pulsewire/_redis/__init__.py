"""Floor 1: the only place that knows the Redis client.

redis-py opens the door (addresses, TLS, credentials, Sentinel, Cluster), then `pipeline.py` takes over the socket and
joins all commands that are issued in one turn of the event loop into one write. The floors above see a `Link`.
"""
