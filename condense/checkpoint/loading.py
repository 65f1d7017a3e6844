"""From a file, or an architecture's name, to a module that knows where it came from."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from condense.checkpoint import architectures, artefact, fitting, states
from condense.checkpoint.architectures import Architecture
from condense.checkpoint.matching import Match, match, no_match
from condense.checkpoint.origin import Origin, attach
from condense.checkpoint.preprocessing import settle, wanted
from condense.checkpoint.reading import read
from condense.checkpoint.request import Request
from condense.checkpoint.states import State
from condense.run import sha256

log = logging.getLogger(__name__)


def load(  # noqa: PLR0913 - every one is an option of the commands
    source: str | Path,
    *,
    arch: str | None = None,
    arch_args: dict[str, Any] | None = None,
    num_classes: int | None = None,
    input_size: Sequence[int] | None = None,
    normalization: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    trust: bool = False,
) -> nn.Module:
    """Open a model file; nothing in it is run.

    Without `arch` the architecture is told from the weights' names and shapes. What is
    known of it, and of its input, is the module's `origin`.

    Args:
        source: A file; or an architecture such as `torchvision:resnet50`, with random weights.
        arch: `torchvision:NAME`, `timm:NAME`, `condense:NAME`, `pkg.mod:factory` or
            `file.py:factory`; by default what the weights fit.
        arch_args: Options that the architecture is built with.
        num_classes: How many the weights must have; by default what they have.
        input_size: (C, H, W) of one image; by default the architecture's.
        normalization: `imagenet`, `cifar10`, `none` …; by default the architecture's.
        mean: Of each channel, instead of `normalization`.
        std: Of each channel, instead of `normalization`.
        trust: Let the file run what it wants.

    Returns:
        The module, in eval mode, on the CPU.

    Raises:
        UntrustedFileError: If the file holds more than weights, with what it would import.
        CheckpointError: If it cannot be read, or fits no architecture.
        UnknownNameError: If there is no such architecture or normalization.
    """
    request = Request(
        arch=arch,
        arch_args=dict(arch_args or {}),
        num_classes=num_classes,
        preprocessing=wanted(
            input_size=input_size, normalization=normalization, mean=mean, std=std
        ),
        trust=trust,
    )
    if is_name(source):
        return _without_file(str(source), request)
    path = Path(source)
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten
        return _from_file(path, read(path, trust=trust), request)


def is_name(source: str | Path) -> bool:
    """Whether `source` is an architecture, not a file."""
    if not isinstance(source, str) or Path(source).exists():
        return False
    scheme, _, name = source.rpartition(":")
    is_module = all(part.isidentifier() for part in scheme.split("."))
    is_factory = name.isidentifier() and (is_module or scheme.endswith(".py"))
    return scheme in architectures.SCHEMES or is_factory


def _without_file(name: str, request: Request) -> nn.Module:
    architecture = architectures.find(name, request.arch_args)
    channels = request.preprocessing.input_size and request.preprocessing.input_size[0]
    network = architecture.build(num_classes=request.num_classes, in_channels=channels)
    log.warning("%s has random weights: no file was named", architecture.name)
    return _finished(network, architecture, request)


def _from_file(path: Path, content: Any, request: Request) -> nn.Module:
    if artefact.is_artefact(content):
        return artefact.restore(content, path, request)
    modules = states.modules_in(content)
    if modules and request.arch is None:
        return _pickled(modules[0][1], path, request)
    places = [(key, module.state_dict()) for key, module in modules]
    places = places or states.states_in(content, str(path))
    architecture, network = (
        _named(places, path, request) if request.arch else _told_apart(places, path, request)
    )
    return _finished(network, architecture, request, path)


def _named(
    places: list[tuple[str, State]], path: Path, request: Request
) -> tuple[Architecture, nn.Module]:
    architecture = architectures.find(str(request.arch), request.arch_args)
    sound = ((place, states.sound(state, str(path))) for place, state in places)
    return architecture, fitting.fitted(architecture, sound, str(path), request.num_classes)


def _told_apart(
    places: list[tuple[str, State]], path: Path, request: Request
) -> tuple[Architecture, nn.Module]:
    tried = [(place, reading) for place, state in places for reading in states.readings(state)]
    for place, state in tried:
        if (found := match(state)) is not None:
            log.info("%s: %s, weights at %s", path, found.signature.architecture, place or "top")
            return _built(found, states.sound(state, str(path)), path, request)
    raise no_match([state for _, state in tried], str(path))


def _built(
    found: Match, state: State, path: Path, request: Request
) -> tuple[Architecture, nn.Module]:
    request.check_classes(found.num_classes, path)
    signature = found.signature
    architecture = architectures.find(signature.architecture, signature.args | request.arch_args)
    network = architecture.build(num_classes=found.num_classes, in_channels=found.in_channels)
    return architecture, fitting.fill(network, state, str(path))


def _pickled(network: nn.Module, path: Path, request: Request) -> nn.Module:
    """A module out of a trusted file, as it was saved."""
    states.sound(network.state_dict(), str(path))
    kind = type(network)
    architecture = Architecture(name=f"{kind.__module__}:{kind.__qualname__}", make=kind)
    return _finished(network.float(), architecture, request, path)


def _finished(
    network: nn.Module, architecture: Architecture, request: Request, path: Path | None = None
) -> nn.Module:
    classes = fitting.classes_of(network)
    request.check_classes(classes, path or architecture.name)
    channels = architectures.known_channels(architecture.name, network)
    preprocessing = settle(request.preprocessing, architecture.describe(network), channels)
    origin = Origin(
        architecture=architecture.name,
        arch_args=architecture.args,
        num_classes=classes,
        input_size=preprocessing.input_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    if path is not None:
        origin = replace(origin, file=str(path), sha256=sha256(path))
    return attach(network, origin)
