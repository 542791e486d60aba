"""The doctor: looks at servers and at what lies there, says in words what is wrong and what to do, mends what is safe.

`facts.py` asks the servers, `diagnosis.py` says what that means. `census.py` walks through the keys, and the files
`orphans_*.py` look for what no program will ever look at again. Everything is asked with the rights that the hub has;
what they do not allow is unknown, not wrong. It may run beside everything else: it asks in pages, and what it mends is
found wrong again by the script that mends it.
"""

from __future__ import annotations

from pulsewire.doctor.examination import examine
from pulsewire.doctor.findings import Diagnosis, Finding, Level

__all__ = ["Diagnosis", "Finding", "Level", "examine"]
