"""Finding an object by a name such as "shop.tasks:app", as a command line gives it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TypeVar

from pulsewire.errors import ConfigurationError

T = TypeVar("T")


def find(name: str, kind: type[T]) -> T:
    """The object of a class that a module has under a name; without the name, the only one that it has.

    Raises:
        ConfigurationError: there is none. What the module itself raises while it is imported comes out as it is.
    """
    module_name, colon, attribute = name.partition(":")
    module = import_module(module_name)
    if colon:
        found = getattr(module, attribute, None)
        if isinstance(found, kind):
            return found
        why = "has no such name" if found is None else f"has a {type(found).__name__!r} there"
        raise ConfigurationError(f"{name!r} is not an app: module {module_name!r} {why}")
    apps = {id(value): value for value in vars(module).values() if isinstance(value, kind)}
    if len(apps) != 1:
        raise ConfigurationError(
            f"module {name!r} has {len(apps) or 'no'} apps: name one, as in '{name}:app'"
        )
    return next(iter(apps.values()))


def import_module(name: str) -> ModuleType:
    """A module by its name. Raises as `find` does."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another one
        raise ConfigurationError(
            f"there is no module {error.name!r}: is it installed, or in the folder you are in?"
        ) from error
    except (ValueError, TypeError) as error:
        if name and not name.startswith("."):
            raise  # the module is there, and raises
        raise ConfigurationError(f"{name!r} is not a module: write 'module:app'") from error
