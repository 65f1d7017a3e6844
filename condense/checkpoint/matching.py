"""Which architecture a state dict belongs to, told from the names and shapes of its weights."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from condense.checkpoint.signatures import CHANNELS, CLASSES, Shape, Signature, table
from condense.checkpoint.states import COUNTER, State
from condense.errors import CheckpointError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Match:
    """An architecture that a state dict fits exactly.

    Args:
        signature: The architecture's.
        num_classes: Read off the weights.
        in_channels: Read off the weights; None if they do not say.
    """

    signature: Signature
    num_classes: int | None
    in_channels: int | None


def match(state: State) -> Match | None:
    """The architecture that the state fits without a weight too many or too few."""
    shapes = shapes_of(state)
    fits = [found for item in table() if (found := _matched(item, shapes)) is not None]
    if len(fits) > 1:
        names = [fit.signature.architecture for fit in fits]
        log.warning("the weights fit %s alike; taken as %s", " and ".join(names), names[0])
    return fits[0] if fits else None


def no_match(states: list[State], where: str) -> CheckpointError:
    """The error for weights that fit nothing: the nearest architectures, and where they part."""
    ranked = sorted(
        (
            (_similarity(item.shapes, shapes), item, shapes)
            for shapes in map(shapes_of, states)
            for item in table()
        ),
        key=lambda entry: -entry[0],
    )
    names = list(dict.fromkeys(item.architecture for _, item, _ in ranked))[:3]
    _, nearest, shapes = ranked[0]
    return CheckpointError(
        f"{where} fits no known architecture; the nearest are {', '.join(names)}; "
        f"for {names[0]}, {first_mismatch(nearest.shapes, shapes)}",
        hint="name its architecture with --arch: torchvision:NAME, timm:NAME, condense:NAME, "
        "pkg.mod:factory or file.py:factory",
    )


def shapes_of(state: Mapping[str, object]) -> dict[str, Shape]:
    """Shape of each weight, without BatchNorm's counters."""
    return {
        key: tuple(getattr(value, "shape", ()))
        for key, value in state.items()
        if not key.endswith(COUNTER)
    }


def first_mismatch(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> str | None:
    """What does not fit first, in words; None if everything does."""
    sizes: dict[str, int] = {}
    for key, shape in expected.items():
        if key not in found:
            return f"{key} of shape {_text(shape)} is missing"
        if not _unify(shape, found[key], sizes):
            known = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in shape)
            return f"{key} has shape {_text(found[key])}, expected {_text(known)}"
    for key, shape in found.items():
        if key not in expected:
            return f"{key} of shape {_text(shape)} is unexpected"
    return None


def _matched(signature: Signature, shapes: dict[str, Shape]) -> Match | None:
    if len(signature.shapes) != len(shapes):
        return None
    sizes: dict[str, int] = {}
    for key, shape in signature.shapes.items():
        if key not in shapes or not _unify(shape, shapes[key], sizes):
            return None
    return Match(
        signature=signature, num_classes=sizes.get(CLASSES), in_channels=sizes.get(CHANNELS)
    )


def _unify(expected: Shape, found: Shape, sizes: dict[str, int]) -> bool:
    """Whether the shapes agree, where an open dimension has one size throughout."""
    if len(expected) != len(found):
        return False
    for want, have in zip(expected, found, strict=True):
        if isinstance(want, str) and isinstance(have, int):
            want = sizes.setdefault(want, have)  # noqa: PLW2901
        if want != have:
            return False
    return True


def _similarity(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> float:
    """Share of equal weights among all that either has; equal names alone count a half."""
    common = expected.keys() & found.keys()
    equal = sum(_unify(expected[key], found[key], {}) for key in common)
    return (equal + len(common)) / 2 / max(1, len(expected.keys() | found.keys()))


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
