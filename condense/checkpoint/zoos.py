"""torchvision and timm behind four functions each: names, a network, its input, and why not."""

import logging
from functools import cache
from types import ModuleType
from typing import Any

from torch import nn

from condense.checkpoint.preprocessing import Preprocessing, Size
from condense.errors import CondenseError
from condense.models import NORMALIZATIONS

FETCHING_OPTIONS = frozenset(
    {"weights", "weights_backbone", "pretrained", "checkpoint_path", "cache_dir"}
    | {"pretrained_cfg", "pretrained_cfg_overlay"}
)
"""Options of theirs that download or open further files."""

QUIET = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
"""Without it these two warn about a slow initialisation, and then do it."""

log = logging.getLogger(__name__)


def torchvision_names() -> list[str]:
    """Torchvision's classifiers."""
    models = _torchvision_models()
    names: list[str] = models.list_models(module=models)
    return names


def torchvision_model(
    name: str, *, num_classes: int | None = None, in_channels: int = 3, **args: Any
) -> nn.Module:
    """A classifier of torchvision with random weights."""
    if num_classes is not None:
        args["num_classes"] = num_classes
    builder = _torchvision_models().get_model_builder(name)
    network: nn.Module = builder(weights=None, **(QUIET.get(name, {}) | args))
    if in_channels != 3:
        replace_input(network, in_channels)
    return network


def torchvision_preprocessing(name: str, network: nn.Module) -> Preprocessing:
    """As the published weights were trained; without downloading them."""
    mean, std = NORMALIZATIONS["imagenet"]
    weights = _torchvision_models().get_model_weights(name)
    options = weights.DEFAULT.transforms.keywords
    side = getattr(network, "image_size", options["crop_size"])
    if getattr(network, "transform_input", None) is False:
        log.warning(
            "%s: weights that began as torchvision's own need the option transform_input=True", name
        )
    return Preprocessing(
        input_size=(3, side, side),
        mean=tuple(options.get("mean", mean)),
        std=tuple(options.get("std", std)),
    )


@cache
def timm_names() -> list[str]:
    """Timm's models, without the tags of their pretrained weights."""
    names: list[str] = _timm().list_models()
    return names


def timm_model(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None, **args: Any
) -> nn.Module:
    """A model of timm with random weights."""
    sizes = {"num_classes": num_classes, "in_chans": in_channels}
    known = {key: value for key, value in sizes.items() if value is not None}
    network: nn.Module = _timm().create_model(name, pretrained=False, **(known | args))
    return network


def timm_preprocessing(network: nn.Module) -> Preprocessing:
    """As timm's configuration of the network says."""
    config: dict[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    size: Size | None = config.get("input_size")
    mean, std = config.get("mean"), config.get("std")
    return Preprocessing(
        input_size=size and (size[0], size[1], size[2]),
        mean=mean and tuple(mean),
        std=std and tuple(std),
    )


def replace_input(network: nn.Module, channels: int) -> None:
    """Let the one convolution that takes three channels take so many."""
    found = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == 3
    ]
    if len(found) != 1:
        raise CondenseError(f"{type(network).__name__} takes 3 channels, expected {channels}")
    name, before = found[0]
    after = nn.Conv2d(
        channels,
        before.out_channels,
        before.kernel_size,  # type: ignore[arg-type]  # torch types it for any dimension
        before.stride,  # type: ignore[arg-type]
        before.padding,  # type: ignore[arg-type]
        bias=before.bias is not None,
    )
    network.set_submodule(name, after)


def _torchvision_models() -> ModuleType:
    try:
        from torchvision import models  # noqa: PLC0415 - seconds
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CondenseError(
            f"torchvision cannot be imported: {reason}",
            hint="it has to belong to the installed torch: "
            "pip install --upgrade --force-reinstall torch torchvision (from the same index)",
        ) from error
    found: ModuleType = models
    return found


def _timm() -> ModuleType:
    try:
        import timm  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CondenseError(
            "timm is not installed; a timm: architecture needs it",
            hint="pip install -e '.[timm]'",
        ) from error
    found: ModuleType = timm
    return found
