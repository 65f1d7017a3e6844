"""Names of parameters and buffers: ours, and those of the authors' code."""

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

_FRONT = {
    "init_h": "init",
    "convg": "coefficients.conv_u",
    "bng": "coefficients.bn_u",
    "convg1": "coefficients.conv_v",
    "bng1": "coefficients.bn_v",
    "convDx": "coefficients.conv_diff_x",
    "bnDx": "coefficients.bn_diff_x",
    "convDy": "coefficients.conv_diff_y",
    "bnDy": "coefficients.bn_diff_y",
}
_INNER_TO_OURS = (
    (r"\.spatialConv\.", ".spatial."),
    (r"\.pointConv\.", ".point."),
    (r"\._ops\.", ".ops."),
    (r"\.(preprocess[01]|ops\.\d+)\.op\.", r".\1."),
)
_INNER_TO_AUTHORS = (
    (r"\.spatial\.", ".spatialConv."),
    (r"\.point\.", ".pointConv."),
    (r"\.ops\.", "._ops."),
    (r"\.(preprocess[01]|_ops\.\d+)\.(?=\d)", r".\1.op."),
)


def to_ours(values: Mapping[str, Value]) -> dict[str, Value]:
    """The same values by our names; what has no other name keeps it."""
    return {_renamed(name, _FRONT, _INNER_TO_OURS): value for name, value in values.items()}


def to_authors(values: Mapping[str, Value]) -> dict[str, Value]:
    """The same values by the authors' names; what has no other name keeps it."""
    front = {ours: theirs for theirs, ours in _FRONT.items()}
    return {_renamed(name, front, _INNER_TO_AUTHORS): value for name, value in values.items()}


def _renamed(name: str, front: Mapping[str, str], inner: tuple[tuple[str, str], ...]) -> str:
    for old, new in front.items():
        if name.startswith(f"{old}."):
            name = new + name.removeprefix(old)
            break
    for pattern, replacement in inner:
        name = re.sub(pattern, replacement, name)
    return name
