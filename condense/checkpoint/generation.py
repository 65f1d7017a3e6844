"""The table of signatures, made from the networks themselves.

    python -m condense.checkpoint.generation        writes signatures.json.gz anew

Each network is built three times, for two numbers of classes and two of input channels: what
differs is open. The builds take no memory for their weights.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from condense.checkpoint import architectures, zoos
from condense.checkpoint.signatures import CHANNELS, CLASSES, TABLE, Signature
from condense.checkpoint.states import COUNTER
from condense.models import names as condense_names
from condense.run import written_whole

VARIANTS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False},
    "inception_v3": {"aux_logits": False},
}
"""Options that change which weights there are, beside the defaults."""

FEW, MANY, DEEP = 7, 11, 5  # classes, classes, and channels, that no network has by itself


def write(path: Path = TABLE) -> None:
    """Generate the table and save it."""
    signatures = [*condense_signatures(), *torchvision_signatures()]
    entries = [
        {"architecture": item.architecture, "args": item.args, "shapes": item.shapes}
        for item in signatures
    ]
    text = json.dumps(entries, separators=(",", ":"))
    with written_whole(path, force=True) as partial:
        partial.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def condense_signatures() -> Iterator[Signature]:
    """Those of `condense.models`."""
    for name in condense_names():
        yield signature(f"condense:{name}")


def torchvision_signatures() -> Iterator[Signature]:
    """Those of the installed torchvision's classifiers."""
    for name in zoos.torchvision_names():
        yield signature(f"torchvision:{name}")
        if name in VARIANTS:
            yield signature(f"torchvision:{name}", VARIANTS[name])


def signature(name: str, args: Mapping[str, Any] | None = None) -> Signature:
    """Signature of one architecture."""
    found = architectures.find(name, dict(args or {}))
    with Weightless():
        networks = [
            found.build(num_classes=FEW),
            found.build(num_classes=MANY),
            found.build(num_classes=FEW, in_channels=DEEP),
        ]
    shapes = {
        key: tuple(_dimension(sizes) for sizes in zip(*tensors, strict=True))
        for key, tensors in _side_by_side(networks)
    }
    return Signature(architecture=name, args=dict(args or {}), shapes=shapes)


class Weightless(TorchFunctionMode):
    """Tensors that would hold weights are made without memory; computed ones are real."""

    MAKERS = (torch.empty, torch.zeros, torch.ones)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in self.MAKERS:
            options["device"] = "meta"
        return func(*args, **options)


def _side_by_side(networks: list[nn.Module]) -> Iterator[tuple[str, list[torch.Size]]]:
    first, *others = (network.state_dict() for network in networks)
    for key, value in first.items():
        if not key.endswith(COUNTER):
            yield key, [value.shape, *(other[key].shape for other in others)]


def _dimension(sizes: tuple[int, ...]) -> int | str:
    few, many, deep = sizes
    if (few, many) == (FEW, MANY):
        return CLASSES
    if few == many != deep == DEEP:
        return CHANNELS
    if few == many == deep:
        return few
    raise ValueError(f"a dimension of {few}, {many} and {deep} follows no number that is known")


if __name__ == "__main__":
    write()
