"""Tables of named things: layers, models, data sets."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from condense.errors import UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for.

    Look names up through the package that owns the table (`from condense.layers import LAYERS`), so
    that every entry is there. Other distributions add theirs through the entry-point group, which
    is read when a name is not found.

    Args:
        kind: What the entries are, as an error message calls them.
        group: Entry-point group of plug-ins, for example `condense.layers`.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self._group = group
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Add what is decorated under `name`.

        Raises:
            ValueError: If the name is taken.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"there is already a {self.kind} named {name!r}")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        """The entry of that name.

        Raises:
            UnknownNameError: If there is none, with the names that there are.
        """
        if name not in self._entries:
            self._load_plugins()
        if name in self._entries:
            return self._entries[name]
        near = get_close_matches(name, self._entries, n=1)
        raise UnknownNameError(
            f"no {self.kind} named {name!r}; there are: {', '.join(self)}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _load_plugins(self) -> None:
        if self._group is None:
            return
        for point in entry_points(group=self._group):
            point.load()
