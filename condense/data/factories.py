"""Data sets that the user's own code makes: `pkg.mod:factory` or `file.py:factory`."""

import importlib
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from condense.data.arrays import parts_of
from condense.data.splits import DataSet, Parts
from condense.errors import DataError


def is_factory(spec: str) -> bool:
    """Whether `spec` reads as `module:name` or `file.py:name`."""
    place, _, name = spec.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    return name.isidentifier() and (place.endswith(".py") or is_module)


def make(spec: str) -> DataSet | Parts:
    """Call the factory: it returns a `DataSet`, `Parts` or a dict of arrays as in an `.npz` file.

    Raises:
        DataError: If it cannot be found, fails or returns something else.
    """
    place, _, name = spec.rpartition(":")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        there = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise DataError(
            f"{place} has no function {name!r}; there are: {', '.join(sorted(there)) or 'none'}",
            hint="name a function that returns a DataSet or a dict of arrays",
        )
    found = _guarded(spec, factory)
    if isinstance(found, DataSet | Parts):
        return found
    if isinstance(found, Mapping):
        return parts_of(found, spec)
    raise DataError(
        f"{spec} returned a {type(found).__name__}, expected a DataSet or a dict of arrays",
        hint="the dict's keys are those of an .npz file: train_images, train_labels, …",
    )


def _module(place: str) -> ModuleType:
    module: ModuleType = _guarded(place, lambda: importlib.import_module(place))
    return module


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise DataError(f"{path} does not exist", hint="name the Python file with its folder")
    name = f"condense_factory_{path.stem}"  # dataclasses look their module up by name
    module = sys.modules[name] = ModuleType(name)
    loader = SourceFileLoader(name, str(path))
    _guarded(str(path), lambda: loader.exec_module(module))
    return module


def _guarded(what: str, call: Any) -> Any:
    try:
        return call()
    except Exception as error:  # the user's code may raise anything
        raise DataError(
            f"{what} failed: {type(error).__name__}: {error}", hint="run it on its own to see where"
        ) from error
