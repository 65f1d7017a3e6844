"""A network for a data set: with its classes, and its channels and size where that is possible."""

import inspect
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from condense.checkpoint import architectures, zoos
from condense.checkpoint.architectures import Architecture
from condense.checkpoint.origin import Origin, attach
from condense.checkpoint.preprocessing import Preprocessing, settle
from condense.data import DataSet, Size, Split
from condense.data.batching import fit
from condense.errors import ConfigError
from condense.models import MODELS
from condense.training.recipes import DEFAULT

SEEN = 5_000
"""Training images that mean and standard deviation are taken from."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What of a new network is not to follow from the data.

    Args:
        arch_args: Options that the architecture is built with.
        num_classes: By default as many as the data has.
        preprocessing: Input size and normalisation.
    """

    arch_args: dict[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def architecture_of(name: str, arch_args: dict[str, Any] | None = None) -> Architecture:
    """The architecture of that name.

    Raises:
        UnknownNameError: If there is none; lists condense's own and the nearest.
    """
    is_bare = ":" not in name
    if is_bare and name not in MODELS and name not in zoos.torchvision_names():
        _ = MODELS[name]  # which says what there is
    return architectures.find(name, arch_args)


def recipe_of(architecture: str | None) -> str:
    """The recipe that a network is trained by unless another is asked for."""
    scheme, _, name = (architecture or "").rpartition(":")
    return MODELS[name].recipe if scheme == "condense" and name in MODELS else DEFAULT


def network_for(
    name: str, data: DataSet, options: NetworkOptions, *, seed: int, auxiliary: bool = False
) -> nn.Module:
    """A network with random weights.

    It takes images as the data has them, if the architecture can be built for them; else in the
    architecture's own size, to which they are resized. They are normalised by mean and standard
    deviation of the training images.

    Args:
        name: Of the architecture, as `load` takes it in `arch`, or bare.
        data: What it is for.
        options: What is not to follow from the data.
        seed: Of the weights.
        auxiliary: Build the second head of an architecture that has the option `auxiliary`.

    Raises:
        UnknownNameError: If there is no such architecture.
        ConfigError: If it takes no images like these.
    """
    architecture = architecture_of(name, options.arch_args)
    if auxiliary and "auxiliary" in inspect.signature(architecture.make).parameters:
        architecture = replace(architecture, args=architecture.args | {"auxiliary": True})
    classes = options.num_classes or len(data.classes)
    sizes = _sizes(architecture, data, options)
    for channels, height, width in sizes:
        network = _built(architecture, classes, channels, seed)
        found = architectures.known_channels(architecture.name, network) or channels
        if _takes(network, (found, height, width)):
            return _attached(network, architecture, (found, height, width), data, options)
    raise ConfigError(
        f"{architecture.name} takes no images of {'x'.join(map(str, sizes[-1]))}",
        hint="name the size that it was made for with --input-size CxHxW",
    )


def without_second_head(network: nn.Module) -> nn.Module:
    """The same network with the head that only training needs taken off, and from its origin."""
    if getattr(network, "auxiliary_head", None) is not None:
        network.auxiliary_head = None  # type: ignore[assignment]
    return network


def _sizes(architecture: Architecture, data: DataSet, options: NetworkOptions) -> list[Size]:
    """Sizes to try: what was asked for, or the data's, then the architecture's own."""
    asked = options.preprocessing.input_size
    if asked is not None:
        return [asked]
    own = None
    if architecture.name.startswith("condense:"):
        own = MODELS[architecture.name.partition(":")[2]].input_size
    return [data.input_size, *([(data.input_size[0], *own[1:])] if own else [])]


def _built(architecture: Architecture, classes: int, channels: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return architecture.build(num_classes=classes, in_channels=channels)


def _takes(network: nn.Module, size: Size) -> bool:
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, *size))
    except (RuntimeError, ValueError, TypeError, IndexError, ConfigError) as error:
        logger.info("no images of %s: %s", size, error)
        return False
    finally:
        network.train(was_training)
    return True


def _attached(
    network: nn.Module,
    architecture: Architecture,
    size: Size,
    data: DataSet,
    options: NetworkOptions,
) -> nn.Module:
    mean, std = _statistics(data.train, data.input_size, size[0])
    asked = options.preprocessing
    settled = settle(asked, Preprocessing(input_size=size, mean=mean, std=std), size[0])
    origin = Origin(
        architecture=architecture.name,
        arch_args={k: v for k, v in architecture.args.items() if k != "auxiliary"},
        num_classes=options.num_classes or len(data.classes),
        input_size=settled.input_size,
        mean=settled.mean,
        std=settled.std,
    )
    return attach(network, origin)


def _statistics(
    split: Split, size: Size, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images spread evenly over the split."""
    count = min(SEEN, len(split))
    places = torch.arange(count) * len(split) // count
    sums = torch.zeros(2, channels, dtype=torch.float64)
    for part in places.split(256):
        pixels: Tensor = fit(split.read(part, size, None), (channels, *size[1:])).double()
        sums += torch.stack([x.mean((2, 3)).sum(0) for x in (pixels, pixels.square())])
    mean, square = sums / count
    std = (square - mean.square()).clamp_min(0).sqrt()
    std = torch.where(std > 0, std, 1.0)
    return _rounded(mean), _rounded(std)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())
