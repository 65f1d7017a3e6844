"""Where a network came from, and what its input has to look like: travels with the module."""

from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from torch import nn

from condense.errors import CheckpointError, ConfigError

KINDS: dict[str, tuple[Any, Any]] = {
    "architecture": (str, None),
    "arch_args": (dict, None),
    "num_classes": (int, None),
    "input_size": (list | tuple, int),
    "mean": (list | tuple, int | float),
    "std": (list | tuple, int | float),
    "file": (str, None),
    "sha256": (str, None),
}
"""What each field of an origin may be in a file, and what the items of a list."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What `load` knows of a module beside its weights; the module's attribute `origin`.

    Args:
        architecture: For example `torchvision:resnet50`; None for a class of the user's own.
        arch_args: Options that the architecture was built with.
        num_classes: Outputs of the classifier.
        input_size: (C, H, W) of one image.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, divided by afterwards.
        file: The file that held the weights; None if they are random.
        sha256: That file's hash.
    """

    architecture: str | None = None
    arch_args: dict[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    input_size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    file: str | None = None
    sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Origin":
        """The origin that `to_dict` gave.

        Raises:
            CheckpointError: If there is a field that no origin has, or a value that it cannot have.
        """
        known = [field.name for field in fields(cls)]
        for key, value in values.items():
            if key not in known:
                near = get_close_matches(key, known, n=1)
                raise CheckpointError(
                    f"an origin has no field {key!r}; it has: {', '.join(known)}",
                    hint=f"did you mean {near[0]!r}?" if near else None,
                )
            _check(key, value)
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**plain)


def origin_of(model: nn.Module) -> Origin | None:
    """The module's origin, or None if `load` did not make it."""
    origin = getattr(model, "origin", None)
    return origin if isinstance(origin, Origin) else None


def _check(key: str, value: Any) -> None:
    kinds, items = KINDS[key]
    is_right = value is None or isinstance(value, kinds)
    if is_right and isinstance(value, list | tuple):
        is_right = all(isinstance(item, items) for item in value)
        is_right = is_right and (key != "input_size" or len(value) == 3)
    if not is_right or (key == "arch_args" and value is None):
        raise CheckpointError(f"an origin's {key} cannot be {value!r}")


def settled_input_size(model: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) that the model's origin gives.

    Raises:
        ConfigError: If nothing is known of it.
    """
    origin = origin_of(model)
    if origin is None or origin.input_size is None:
        raise ConfigError(
            "the size of the model's input is not known", hint="say it: --input-size 3x224x224"
        )
    return origin.input_size


def attach(model: nn.Module, origin: Origin) -> nn.Module:
    """The same module in eval mode on the CPU, with its origin."""
    model.origin = origin  # type: ignore[assignment]  # plain data, which deepcopy keeps
    return model.cpu().eval()
