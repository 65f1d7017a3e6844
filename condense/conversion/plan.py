"""A conversion as plain data: which blocks go, which layers come, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

from condense.errors import ConfigError
from condense.layers.options import check_choice

SCHEMA = 1
Scope = Literal["stage", "conv"]
"""What is replaced: the repeats of a stage, or single convolutions."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
MIX = "linear-mix"
"""The layer that can take a single convolution's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """New layers in the place of a stage's repeats, or of one convolution.

    Args:
        stage: The stage's name; for a convolution outside all stages its own.
        blocks: Names of the blocks that go, in the order in which they run; or the convolution's.
        layer: Name in `condense.layers.LAYERS`.
        count: New layers, one behind the other.
        channels: Of the maps.
        options: Of each layer, plain values.
    """

    stage: str
    blocks: tuple[str, ...]
    layer: str
    count: int = 1
    channels: int
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(isinstance(self.stage, str), "stage", "a name", self.stage)
        are_names = isinstance(self.blocks, tuple) and all(isinstance(b, str) for b in self.blocks)
        _check(are_names and self.blocks != (), "blocks", "a list of names", self.blocks)
        _check(isinstance(self.layer, str), "layer", "a name", self.layer)
        _check(_is_whole(self.count, 1), "count", "a whole number >= 1", self.count)
        _check(_is_whole(self.channels, 1), "channels", "a whole number >= 1", self.channels)
        _check(isinstance(self.options, dict), "options", "a mapping", self.options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {
            "stage": self.stage,
            "blocks": list(self.blocks),
            "layer": self.layer,
            "count": self.count,
            "channels": self.channels,
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Replacement":
        """The replacement that `to_dict` gave.

        Raises:
            ConfigError: If a key is unknown or missing, or a value has the wrong type.
        """
        known = [item.name for item in fields(cls)]
        _check_keys(values, known, required=("stage", "blocks", "layer", "channels"))
        return cls(**{**values, "blocks": _tuple(values["blocks"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that `apply` needs, beside the original model.

    Args:
        replacements: One for each stage that is converted, or for each convolution.
        input_size: (C, H, W) that the stages were found with.
        seed: The new layers' first values are drawn with it.
        scope: What is replaced.
        control: Leave the new layers out: the network that shows what they are worth. There is none
            of scope `conv`, where no block goes.
        verdicts: For each stage of the model (each convolution), whether it was chosen and why;
            plain values.
    """

    replacements: tuple[Replacement, ...]
    input_size: tuple[int, int, int]
    seed: int = 0
    scope: Scope = "stage"
    control: bool = False
    verdicts: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        is_size = isinstance(self.input_size, tuple) and len(self.input_size) == 3
        is_size = is_size and all(_is_whole(size, 1) for size in self.input_size)
        _check(is_size, "input_size", "three whole numbers (C, H, W)", self.input_size)
        _check(_is_whole(self.seed, 0), "seed", "a whole number >= 0", self.seed)
        _check(isinstance(self.control, bool), "control", "true or false", self.control)
        _check(_are(self.verdicts, dict), "verdicts", "a list of mappings", self.verdicts)
        _check(_are(self.replacements, Replacement), "replacements", "a list", self.replacements)
        self._check_scope()
        names = [name for item in self.replacements for name in item.blocks]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"a plan replaces each block once, {min(twice)!r} appears twice")

    @property
    def has_control(self) -> bool:
        """Whether leaving the new layers out gives a network."""
        return self.scope == "stage"

    def as_control(self) -> "Plan":
        """The same plan without the new layers.

        Raises:
            ConfigError: If there is no such network.
        """
        return replace(self, control=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {
            "schema": SCHEMA,
            "replacements": [item.to_dict() for item in self.replacements],
            "input_size": list(self.input_size),
            "seed": self.seed,
            "scope": self.scope,
            "control": self.control,
            "verdicts": [dict(verdict) for verdict in self.verdicts],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Plan":
        """The plan that `to_dict` gave.

        Raises:
            ConfigError: If a key is unknown or missing, or a value has the wrong type.
        """
        known = [item.name for item in fields(cls)]
        _check_keys(values, ["schema", *known], required=("replacements", "input_size"))
        if values.get("schema", SCHEMA) != SCHEMA:
            raise ConfigError(f"a plan has schema {SCHEMA}, got {values['schema']!r}")
        items = values["replacements"]
        _check(isinstance(items, list | tuple), "replacements", "a list", items)
        own = {key: value for key, value in values.items() if key != "schema"}
        own |= {
            "replacements": tuple(Replacement.from_dict(item) for item in items),
            "input_size": _tuple(values["input_size"]),
            "verdicts": _tuple(values.get("verdicts", ())),
        }
        return cls(**own)

    def _check_scope(self) -> None:
        check_choice("a plan's scope", self.scope, SCOPES)
        if self.has_control:
            return
        if self.control:
            raise ConfigError(
                "a plan of scope 'conv' removes no block, so it has no control",
                hint="hold the converted model against the original",
            )
        for item in self.replacements:
            plain = len(item.blocks) == item.count == 1 and not item.options
            if item.layer != MIX or not plain:
                raise ConfigError(
                    f"a plan of scope 'conv' puts one {MIX} without options in the place of each "
                    f"convolution, got {item.count} x {item.layer} for {', '.join(item.blocks)}"
                )


def _check_keys(values: object, known: list[str], *, required: tuple[str, ...]) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"a plan is made of mappings, got {values!r}")
    for key in values:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            raise ConfigError(
                f"a plan has no key {key!r} here; it has: {', '.join(known)}",
                hint=f"did you mean {near[0]!r}?" if near else None,
            )
    if missing := [key for key in required if key not in values]:
        raise ConfigError(f"a plan needs the key {missing[0]!r}, it is missing")


def _check(holds: bool, key: str, wanted: str, got: object) -> None:  # noqa: FBT001
    if not holds:
        raise ConfigError(f"a plan's {key} must be {wanted}, got {got!r}")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are(values: object, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
