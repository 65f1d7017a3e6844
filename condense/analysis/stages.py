"""The result of an analysis: stages, and what a replacement would save in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from condense.errors import UnknownNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A layer held against the blocks that it would replace, on this machine.

    Args:
        layer: Its name in `LAYERS`.
        params: Of the new layers.
        macs: Of the new layers, for one image.
        latency_ms: Of the new layers.
        removed_params: Of the blocks that go.
        removed_macs: Of the blocks that go.
        removed_latency_ms: Of the blocks that go, run alone.
        ratio: New latency over old: 95 % interval with the middle, (low, mid, high).
    """

    layer: str
    params: int
    macs: int
    latency_ms: float
    removed_params: int
    removed_macs: int
    removed_latency_ms: float
    ratio: tuple[float, float, float]

    @property
    def is_faster(self) -> bool:
        """Whether the whole interval of the ratio lies below 1."""
        return self.ratio[2] < 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {
            "layer": self.layer,
            "params": self.params,
            "macs": self.macs,
            "latency_ms": self.latency_ms,
            "removed_params": self.removed_params,
            "removed_macs": self.removed_macs,
            "removed_latency_ms": self.removed_latency_ms,
            "latency_ratio": list(self.ratio),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`.

        Raises:
            KeyError: If a value is missing.
            ValueError: If one is not what it should be.
        """
        low, mid, high = (float(end) for end in values["latency_ratio"])
        return cls(
            layer=str(values["layer"]),
            params=int(values["params"]),
            macs=int(values["macs"]),
            latency_ms=float(values["latency_ms"]),
            removed_params=int(values["removed_params"]),
            removed_macs=int(values["removed_macs"]),
            removed_latency_ms=float(values["removed_latency_ms"]),
            ratio=(low, mid, high),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks at one resolution.

    Args:
        name: The container that holds just these blocks, or the first block.
        blocks: Names of all of them, in the order in which they run.
        repeats: Names of those that go if one block is kept.
        in_shape: Of the first block's input, without the batch.
        out_shape: Of every block's output, without the batch.
        input_size: (C, H, W) of the image that the model was traced with.
        params: Of all blocks.
        macs: Of all blocks, for one image.
        convertible: Whether the repeats can be replaced.
        reason: Why not, in one clause; None if they can.
        latency_ms: Of all blocks; None until `measure_stages`.
        replacement: What takes the repeats' place, measured; None until `measure_stages`.
    """

    name: str
    blocks: tuple[str, ...]
    repeats: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    input_size: tuple[int, int, int]
    params: int
    macs: int
    convertible: bool
    reason: str | None = None
    latency_ms: float | None = None
    replacement: Trial | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {
            "name": self.name,
            "blocks": list(self.blocks),
            "repeats": list(self.repeats),
            "in_shape": list(self.in_shape),
            "out_shape": list(self.out_shape),
            "params": self.params,
            "macs": self.macs,
            "latency_ms": self.latency_ms,
            "convertible": self.convertible,
            "reason": self.reason,
            "replacement": self.replacement.to_dict() if self.replacement else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The whole model, which the stages are shares of."""

    params: int
    macs: int
    latency_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {"params": self.params, "macs": self.macs, "latency_ms": self.latency_ms}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """All stages of a model, in the order in which they run.

    Args:
        input_size: (C, H, W) that the model was traced with.
        stages: One for each resolution.
        totals: Of the whole model.
    """

    input_size: tuple[int, int, int]
    stages: tuple[Stage, ...]
    totals: Totals

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, name: str) -> Stage:
        """The stage of that name.

        Raises:
            UnknownNameError: If there is none, with those that there are.
        """
        names = [stage.name for stage in self.stages]
        if name in names:
            return self.stages[names.index(name)]
        near = get_close_matches(name, names, n=1)
        raise UnknownNameError(
            f"no stage named {name!r}; there are: {', '.join(names) or 'none'}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )

    @property
    def convertible(self) -> tuple[Stage, ...]:
        """The stages whose repeats can be replaced."""
        return tuple(stage for stage in self.stages if stage.convertible)

    def select(self, names: Sequence[str]) -> tuple[Stage, ...]:
        """The stages of these names, in the order in which they run.

        Raises:
            UnknownNameError: If one does not exist.
        """
        wanted = {self[name].name for name in names}
        return tuple(stage for stage in self.stages if stage.name in wanted)

    def to_dict(self) -> dict[str, Any]:
        """What `analyze --json` says of the model's structure."""
        return {
            "stages": [stage.to_dict() for stage in self.stages],
            "totals": self.totals.to_dict(),
        }
