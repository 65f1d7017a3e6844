"""The table of data sets that have a name."""

from collections.abc import Callable

from condense.data.splits import Parts
from condense.registry import Registry

DATA_SETS: Registry[Callable[[], Parts]] = Registry("data set", group="condense.data")
