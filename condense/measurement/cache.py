"""Latencies that were measured on this machine before, kept in the user's cache folder.

A measurement goes by the hash of all that it depends on: the machine, the versions, the structure
of the modules, the shapes, and how it was timed. A cache that cannot be read or written is no
reason to stop: what is missing is measured.
"""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from condense.errors import CondenseError
from condense.layers import GlobalLayer
from condense.layers.fused import kernel_for
from condense.measurement.machine import environment
from condense.run import written_whole

SCHEMA = 1
MOST = 2000
"""Entries that are kept, the newest."""

Measured = TypeVar("Measured")
log = logging.getLogger(__name__)


class LatencyCache:
    """What the file holds, and what was measured since.

    Args:
        path: The file.
        fresh: Answer nothing, so that all is measured anew.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self._entries = {} if fresh else _read(path)
        self._new: dict[str, Any] = {}

    def get(self, facts: Mapping[str, Any], read: Callable[[Any], Measured]) -> Measured | None:
        """What was measured under these facts; None if nothing was, or `read` cannot use it."""
        entry = self._entries.get(key_of(facts))
        if entry is None:
            return None
        try:
            found = read(entry["value"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s: an entry that cannot be used is ignored: %r", self.path, error)
            return None
        log.info("measured before, on %s; --fresh measures again", entry["date"])
        return found

    def put(self, facts: Mapping[str, Any], value: Any) -> None:
        """Keep a measurement, as plain values."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        self._new[key_of(facts)] = {"date": date, "value": value}

    def save(self) -> None:
        """Add what is new to the file as it is now."""
        if not self._new:
            return
        entries = _read(self.path) | self._new
        newest = sorted(entries, key=lambda key: str(entries[key]["date"]))[-MOST:]
        document = {"schema": SCHEMA, "entries": {key: entries[key] for key in newest}}
        try:
            with written_whole(self.path, force=True) as partial:
                partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        except (CondenseError, OSError) as error:
            log.warning("the measured latencies are not kept for the next time: %s", error)


@contextmanager
def latency_cache(*, fresh: bool = False) -> Iterator[LatencyCache]:
    """The user's cache, which is saved however the block ends."""
    cache = LatencyCache(cache_folder() / "latencies.json", fresh=fresh)
    try:
        yield cache
    finally:
        cache.save()


def cache_folder(platform: str = sys.platform) -> Path:
    """Where this system keeps what can be made again.

    Args:
        platform: As `sys.platform` names it.
    """
    variable = "LOCALAPPDATA" if platform == "win32" else "XDG_CACHE_HOME"
    given = os.environ.get(variable)
    return Path(given if given else os.path.expanduser("~/.cache")) / "condense"  # noqa: PTH111


def key_of(facts: Mapping[str, Any]) -> str:
    """Hash of plain values, whatever their order."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def machine_facts(like: Tensor) -> dict[str, Any]:
    """What a latency owes to the machine and its software.

    Args:
        like: A tensor of the device and the type that is measured with.
    """
    names = ("condense", "torch", "cpu", "cores", "threads")
    known = environment()
    return {name: known[name] for name in names} | {
        "device": str(like.device),
        "gpu": torch.cuda.get_device_name(like.device) if like.is_cuda else None,
        "dtype": str(like.dtype),
    }


def structure_of(module: nn.Module) -> str:
    """Hash of what a module consists of, not of its weights."""
    parts = [repr(module)]
    parts += [f"{name} {_plain_attributes(part)}" for name, part in module.named_modules()]
    parts += [
        f"{name} {tuple(value.shape)} {value.stride()} {value.dtype}"
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _plain_attributes(module: nn.Module) -> str:
    """Class and options of a module, also those that its repr does not show."""
    kinds = (bool, int, float, str, tuple, type(None))
    shown = {
        name: value
        for name, value in sorted(vars(module).items())
        if name != "training" and isinstance(value, kinds)
    }
    return f"{type(module).__module__}.{type(module).__qualname__} {shown}"


def kernels_of(module: nn.Module) -> list[str]:
    """The kernels that the Global layers of a module run here."""
    return sorted(
        {
            kernel_for(part, part.bn_out.weight.new_empty(1, part.channels, 8, 8))
            for part in module.modules()
            if isinstance(part, GlobalLayer)
        }
    )


def _read(path: Path) -> dict[str, Any]:
    """The entries of the file; none if there is no file, or none that can be used."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            return {}
        return {key: entry for key, entry in document["entries"].items() if "date" in entry}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and is ignored: %s", path, error)
        return {}
