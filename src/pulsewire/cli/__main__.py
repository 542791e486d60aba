"""`python -m pulsewire.cli`: the same as the `pulsewire` program. The demo starts its processes this way."""

from __future__ import annotations

from pulsewire.cli.app import main

if __name__ == "__main__":
    main()
