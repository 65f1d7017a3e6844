"""What a network's input looks like: its size and normalisation, by default and as asked for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from condense.errors import ConfigError, UnknownNameError
from condense.models import NORMALIZATIONS

Size = tuple[int, int, int]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Size of the input and its normalisation; None where nothing is known.

    Args:
        input_size: (C, H, W).
        mean: Of each channel.
        std: Of each channel.
    """

    input_size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def wanted(
    *,
    input_size: Sequence[int] | None = None,
    normalization: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Preprocessing:
    """What a user asks for, checked.

    Raises:
        ConfigError: If the size is not three positive numbers, or mean and std do not go together.
        UnknownNameError: If no normalisation has that name.
    """
    if input_size is not None and (len(input_size) != 3 or min(input_size) < 1):
        raise ConfigError(
            f"input_size must be three positive numbers (C, H, W), got {tuple(input_size)}",
            hint="for example 3x32x32",
        )
    if normalization is not None:
        if mean is not None or std is not None:
            raise ConfigError("normalization and mean/std exclude each other, got both")
        if normalization not in NORMALIZATIONS:
            raise UnknownNameError(
                f"no normalization named {normalization!r}; there are: {', '.join(NORMALIZATIONS)}"
            )
        mean, std = NORMALIZATIONS[normalization]
    if (mean is None) != (std is None):
        raise ConfigError("mean and std go together, got one of them")
    if std is not None and min(std, default=0) <= 0:
        raise ConfigError(f"std must be above 0, got {tuple(std)}")
    return Preprocessing(
        input_size=None if input_size is None else (input_size[0], input_size[1], input_size[2]),
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
    )


def settle(asked: Preprocessing, default: Preprocessing, channels: int | None) -> Preprocessing:
    """The default, with what was asked for in its place, for a network with so many channels.

    Raises:
        ConfigError: If what was asked for does not fit the channels.
    """
    size = asked.input_size or _with_channels(default.input_size, channels)
    channels = channels or (size[0] if size else None)
    if size and size[0] != channels:
        raise ConfigError(
            f"input_size {'x'.join(map(str, size))} has {size[0]} channels; "
            f"the network's first convolution takes {channels}",
            hint=f"for example {channels}x{size[1]}x{size[2]}",
        )
    if asked.mean is None or asked.std is None:
        mean, std = _averaged(default.mean, channels), _averaged(default.std, channels)
    else:
        mean, std = _spread("mean", asked.mean, channels), _spread("std", asked.std, channels)
    return Preprocessing(input_size=size, mean=mean, std=std)


def _with_channels(size: Size | None, channels: int | None) -> Size | None:
    return (channels, *size[1:]) if size and channels else size


def _spread(name: str, values: tuple[float, ...], channels: int | None) -> tuple[float, ...]:
    if channels is None or len(values) == channels:
        return values
    if len(set(values)) == 1:
        return values[:1] * channels
    raise ConfigError(f"{name} has {len(values)} values; the network takes {channels} channels")


def _averaged(values: tuple[float, ...] | None, channels: int | None) -> tuple[float, ...] | None:
    """The default for another number of channels: the average over its own, in every channel."""
    if values is None or channels is None or len(values) == channels:
        return values
    log.info("normalisation of %d channels averaged for %d", len(values), channels)
    return (sum(values) / len(values),) * channels
