"""What a network expects to be fed."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from condense.data import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Size and normalisation of a network's images.

    Args:
        input_size: (C, H, W).
        mean: Of each channel, for pixels from 0 to 1; None for 0.
        std: Of each channel; None for 1.
    """

    input_size: Size
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation, written out."""
        channels = self.input_size[0]
        return self.mean or (0.0,) * channels, self.std or (1.0,) * channels

    def to_dict(self) -> dict[str, Any]:
        """As keyword arguments of `data.batches`."""
        return asdict(self)


def known_inputs(model: nn.Module) -> dict[str, Any]:
    """What the model's origin says of its inputs; nothing for a model of unknown origin."""
    origin = getattr(model, "origin", None)
    found = {name: getattr(origin, name, None) for name in ("input_size", "mean", "std")}
    return {name: tuple(value) for name, value in found.items() if value is not None}
