"""Every task library that is measured, each in a module of its own, named `with_<library>`.

Such a module is what its user would write: the application object, the two tasks and a `producer()`. The workers run in
environments that have the library but not what this repository needs, so these modules import nothing of it but `work`
(which is the standard library). `produce` is the program that enqueues, for all of them.

The two tasks do the same everywhere: `work` says that it ran, `timed` also says how long ago it was enqueued.
"""

from __future__ import annotations
