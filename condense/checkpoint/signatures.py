"""Signatures of the known architectures: every weight's name and shape, with open dimensions.

A dimension is open where it follows the number of classes or of input channels. BatchNorm's
counters are left out: older checkpoints lack them. `generation` makes the table.
"""

import gzip
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("signatures.json.gz")
CLASSES, CHANNELS = "classes", "channels"
"""How an open dimension is written."""

Shape = tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a state dict of an architecture looks like.

    Args:
        architecture: Its name with its scheme.
        args: Options that it has to be built with.
        shapes: Shape of each weight, by its name.
    """

    architecture: str
    args: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, Shape]


@cache
def table() -> tuple[Signature, ...]:
    """Every signature that the package comes with."""
    entries = json.loads(gzip.decompress(TABLE.read_bytes()))
    return tuple(
        Signature(
            architecture=entry["architecture"],
            args=entry["args"],
            shapes={key: tuple(shape) for key, shape in entry["shapes"].items()},
        )
        for entry in entries
    )
