"""A state dict into a network that it fits exactly."""

import logging
from collections.abc import Iterable

from torch import nn

from condense.checkpoint.architectures import Architecture
from condense.checkpoint.matching import first_mismatch, shapes_of
from condense.checkpoint.states import State, readings
from condense.errors import CheckpointError

log = logging.getLogger(__name__)


def fill(network: nn.Module, state: State, where: str) -> nn.Module:
    """The network, with the state's weights in it.

    Raises:
        CheckpointError: If a weight is missing, unexpected or of another shape.
    """
    own = network.state_dict()
    if (mismatch := first_mismatch(shapes_of(own), shapes_of(state))) is not None:
        raise CheckpointError(
            f"{where} does not fit the architecture: {mismatch}",
            hint="name the architecture that it was trained with, with its --arch-arg options",
        )
    own.update({key: state[key] for key in own if key in state})  # and keeps torch's versions
    network.load_state_dict(own)
    return network


def fitted(
    architecture: Architecture,
    states: Iterable[tuple[str, State]],
    where: str,
    num_classes: int | None = None,
) -> nn.Module:
    """A network of that architecture, its classes and channels as the weights have them.

    Raises:
        CheckpointError: If none of the states fits, with the first difference of the likeliest.
    """
    default = architecture.build(num_classes=num_classes)
    first: State | None = None
    for place, state in states:
        for reading in readings(state):
            sizes = _sizes(default, reading)
            network = architecture.build(**sizes) if sizes else default
            if first_mismatch(shapes_of(network.state_dict()), shapes_of(reading)) is None:
                log.info("%s: weights taken from %s", where, place or "the top")
                return fill(network, reading, where)
            likeliest = first is None or _common(default, reading) > _common(default, first)
            first = reading if likeliest else first
    return fill(default, first or {}, f"{where} as {architecture.name}")


def classes_of(network: nn.Module) -> int | None:
    """Outputs of the last linear layer or convolution."""
    last = None
    for module in network.modules():
        if isinstance(module, nn.Linear):
            last = module.out_features
        elif isinstance(module, nn.Conv2d):
            last = module.out_channels
    return last


def _sizes(network: nn.Module, state: State) -> dict[str, int]:
    """Classes and channels that the state has and the network has not."""
    classes, channels = set(), set()
    for key, own in shapes_of(network.state_dict()).items():
        shape = tuple(state[key].shape) if key in state else own
        if len(shape) != len(own) or shape == own:
            continue
        if shape[1:] == own[1:]:
            classes.add(int(shape[0]))
        elif len(shape) == 4 and (shape[0], *shape[2:]) == (own[0], *own[2:]):
            channels.add(int(shape[1]))
    found = {"num_classes": classes, "in_channels": channels}
    return {name: sizes.pop() for name, sizes in found.items() if len(sizes) == 1}


def _common(network: nn.Module, state: State) -> int:
    return len(network.state_dict().keys() & state.keys())
