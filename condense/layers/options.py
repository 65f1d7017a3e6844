"""Checks of options, and building a layer or a block from a name and plain values."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from torch import nn

from condense.errors import ConfigError
from condense.layers.tables import BLOCKS, LAYERS
from condense.registry import Registry

BlockSpec = str | Mapping[str, Any]
"""A block as plain data: its name, or `{"block": name, option: value, …}`."""

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


def build_layer(name: str, channels: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A layer of `LAYERS` from plain data, as a plan holds it.

    Raises:
        ConfigError: If there is no such layer, or it has no such option or not with that value.
    """
    return _build(LAYERS, name, channels, options or {})


def build_block(spec: BlockSpec, channels: int) -> nn.Module:
    """A block of `BLOCKS` from its name, or from a mapping with `block` and its options.

    Raises:
        ConfigError: If there is no such block, or it has no such option or not with that value.
    """
    if isinstance(spec, str):
        return _build(BLOCKS, spec, channels, {})
    if not isinstance(spec, Mapping) or not isinstance(spec.get("block"), str):
        raise ConfigError(
            f"a block must be a name or a mapping with 'block', got {spec!r}",
            hint=f"blocks: {', '.join(BLOCKS)}",
        )
    options = {key: value for key, value in spec.items() if key != "block"}
    return _build(BLOCKS, spec["block"], channels, options)


def check_known(names: Iterable[str], allowed: Iterable[str], what: str) -> None:
    """Refuse names that are not among `allowed`.

    Raises:
        ConfigError: For the first unknown one, naming the nearest.
    """
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            near = get_close_matches(name, allowed, n=1)
            raise ConfigError(
                f"{what} has no option {name!r}; it has: {', '.join(allowed)}",
                hint=f"did you mean {near[0]!r}?" if near else None,
            )


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse a value that is not one of a few words.

    Raises:
        ConfigError: Listing the allowed ones and naming the nearest.
    """
    allowed = list(allowed)
    if value not in allowed:
        near = get_close_matches(str(value), allowed, n=1)
        raise ConfigError(
            f"{name} must be one of {', '.join(allowed)}, got {value!r}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ConfigError: With the value.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {value!r}")


def check_whole(name: str, value: object, *, least: int = 1) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        ConfigError: With the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number >= {least}, got {value!r}")


def check_number(name: str, value: Any, *, least: float = 0.0, is_strict: bool = True) -> None:
    """Refuse what is not a finite number above `least` (or equal to it, if not strict).

    Raises:
        ConfigError: With the value.
    """
    bound = ">" if is_strict else ">="
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value < least or (is_strict and value == least):
        raise ConfigError(f"{name} must be a finite number {bound} {least:g}, got {value!r}")


def _build(
    table: Registry[Builder], name: str, channels: int, options: Mapping[str, Any]
) -> nn.Module:
    entry = table[name]
    check_whole("channels", channels)
    parameters = [p for p in inspect.signature(entry).parameters.values() if p.name != "channels"]
    check_known(options, (p.name for p in parameters), f"{table.kind} {name!r}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ConfigError(
                f"{table.kind} {name!r} needs the option {parameter.name!r}, got none"
            )
    return entry(channels, **options)
