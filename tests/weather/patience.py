"""How much longer things may take where other tests share the machine.

The long forms, which run alone, are held to the bounds that the guarantees state. In the short forms, several of
which run
at a time beside all other tests, a server or a client may not get to run for seconds.
"""

from __future__ import annotations

import os

SHARING = 2.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0
"""What bounds are multiplied with."""
