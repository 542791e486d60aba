"""How the plans of the acts refuse numbers that cannot work."""

from __future__ import annotations

__all__ = ["PlanError", "require"]


class PlanError(ValueError):
    """Options of the demo that cannot be, or contradict each other.

    Attributes:
        option: The culprit, as written on the command line.
    """

    def __init__(self, option: str, reason: str) -> None:
        self.option = option
        super().__init__(reason)


def require(holds: bool, option: str, reason: str) -> None:
    """Refuse an option unless something holds.

    Raises:
        PlanError: It does not.
    """
    if not holds:
        raise PlanError(option, reason)
