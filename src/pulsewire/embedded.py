"""The embedded server, for tools: is it running, stop it, hold on to it.

Programs need none of this: `pulsewire.connect()` without a target starts it and shares it.
"""

from __future__ import annotations

from pulsewire._redis.embedded import Attachment, KeeperStatus, attach, status, stop

__all__ = ["Attachment", "KeeperStatus", "attach", "status", "stop"]
