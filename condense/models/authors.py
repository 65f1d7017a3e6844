"""Networks of the Global-layer paper's own code: its command line and its weights.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from condense.errors import CheckpointError, ConfigError, UnknownNameError
from condense.layers import GlobalLayer, authors_options
from condense.layers.authors_names import to_authors, to_ours
from condense.models.authors_command import CLASSES, CommandLine, read_command
from condense.models.darts import DartsNetwork
from condense.models.densenet import densenet
from condense.models.mnist import WIDTH, mnist_network, mnist_ode, mnist_resnet
from condense.models.projection_resnet import projection_resnet

Config = Mapping[str, Any]
"""Options of a Global layer, by the authors' names."""

_ODE_TO_OURS = ((r"\.odefunc\.", ".field."), (r"\._layer\.", "."))
_ODE_TO_AUTHORS = ((r"\.field\.(conv\d)\.", r".field.\1._layer."), (r"\.field\.", ".odefunc."))


def from_authors(
    argv: str | Sequence[str],
    state_dict: Mapping[str, Tensor],
    old_style: bool = False,  # noqa: FBT001, FBT002 - DESIGN.md has it by position
) -> nn.Module:
    """A network of the authors' code, its weights included, in their precision and eval mode.

    A DARTS network has its auxiliary head if the weights do; it speaks in training only.

    Args:
        argv: The command line that it was made with, as one string or as words.
        state_dict: Its weights, by their names.
        old_style: Whether the coefficients' convolutions have a bias.

    Raises:
        ConfigError: If an option is unknown or has a value that it cannot take.
        CheckpointError: If the weights do not fit the options.
    """
    command = read_command(argv)
    state = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    config = _told_by_weights({**command.layer, "old_style": old_style}, state)
    network = _builder(command.model)(command, config, state)
    kinds = (tensor.dtype for tensor in state.values() if tensor.is_floating_point())
    network.to(next(kinds, torch.get_default_dtype()))
    load_authors(network, state)
    return network.eval()


def load_authors(network: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights that have the authors' names into one of our networks.

    Raises:
        CheckpointError: If one is missing, unexpected or of another shape.
    """
    state = _renamed(network, state_dict, to_ours, _ODE_TO_OURS)
    wanted = network.state_dict()
    missing, left_over = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or left_over:
        raise CheckpointError(
            f"the weights do not fit the network: {len(missing)} missing {missing[:3]}, "
            f"{len(left_over)} unexpected {left_over[:3]}",
            hint="pass the command line that these weights were trained with",
        )
    for name, tensor in wanted.items():
        if tensor.shape != state[name].shape:
            found, expected = tuple(state[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"{name} has shape {found}, the network asks for {expected}")
    network.load_state_dict(state)


def authors_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by the authors' names: what `load_authors` takes."""
    return _renamed(network, network.state_dict(), to_authors, _ODE_TO_AUTHORS)


def _renamed(
    network: nn.Module,
    state: Mapping[str, Tensor],
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
    patterns: tuple[tuple[str, str], ...],
) -> dict[str, Tensor]:
    """By other names; those inside a Global layer begin with its own."""
    layers = [name for name, part in network.named_modules() if isinstance(part, GlobalLayer)]
    renamed = {}
    for name, tensor in state.items():
        front = next((f"{layer}." for layer in layers if name.startswith(f"{layer}.")), "")
        (other,) = rename({name.removeprefix(front): tensor})
        for pattern, replacement in patterns:
            other = re.sub(pattern, replacement, other)
        renamed[front + other] = tensor
    return renamed


def _told_by_weights(config: Config, state: Mapping[str, Tensor]) -> Config:
    """`default` is an identity, unless the weights hold a plain convolution for it."""
    convolutions = {"custom_uv": ".convg.weight", "custom_dxy": ".convDx.weight"}
    plain = {
        option: ""
        for option, weight in convolutions.items()
        if config[option] == "default" and any(name.endswith(weight) for name in state)
    }
    return {**config, **plain}


Builder = Callable[[CommandLine, Config, Mapping[str, Tensor]], nn.Module]


def _builder(model: str) -> Builder:
    if model not in _BUILDERS:
        near = get_close_matches(model, _BUILDERS, n=1)
        raise UnknownNameError(
            f"the authors have no --model {model!r}; there are: {', '.join(_BUILDERS)}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    return _BUILDERS[model]


def _resnet(
    command: CommandLine, config: Config, state: Mapping[str, Tensor], *, has_global: bool
) -> nn.Module:
    stages = 3 if command.original else 4
    return _of_stages(command, command.sizes[:stages], _maker(config) if has_global else None)


def _wide_resnet(
    command: CommandLine, config: Config, state: Mapping[str, Tensor], *, has_global: bool
) -> nn.Module:
    widths = tuple(command.width * size for size in command.sizes[:3])
    config = {**config, "cell_type": _init_block("BasicBlock", state)}
    return _of_stages(command, widths, _maker(config) if has_global else None)


def _of_stages(
    command: CommandLine, widths: tuple[int, ...], make: Callable[[int], nn.Module] | None
) -> nn.Module:
    if len(widths) == 3 and command.sizes[2] != command.sizes[3]:
        raise ConfigError(f"three stages need n3 = n4, got {command.sizes[2]}, {command.sizes[3]}")
    return projection_resnet(
        command.repeats,
        CLASSES[command.dataset],
        widths=widths,
        after_stage=make,
        followed=3,
        separable=command.separable,
    )


def _densenet(
    command: CommandLine, config: Config, state: Mapping[str, Tensor], *, has_global: bool
) -> nn.Module:
    # Of these their code passes nothing on to a DenseNet's or DARTS network's layers.
    config = {**config, "cell_type": _init_block("BasicDense", state), "use_res": False}
    make = _maker(config) if has_global else None
    return densenet(command.sizes[:3], CLASSES[command.dataset], after_transition=make)


def _darts(
    command: CommandLine, config: Config, state: Mapping[str, Tensor], *, has_global: bool
) -> nn.Module:
    def make(channels: int, init: dict[str, Any]) -> nn.Module:
        _, options = authors_options(channels, {**config, "use_f_for_g": False, "use_res": False})
        return GlobalLayer(channels, **{**options, "init": init})

    return DartsNetwork(
        command.repeats,
        command.sizes[0],
        CLASSES[command.dataset],
        make_global=make if has_global else None,
        auxiliary=any(name.startswith("auxiliary_head.") for name in state),
    )


def _mnist_resnet(command: CommandLine, config: Config, state: Mapping[str, Tensor]) -> nn.Module:
    return mnist_resnet(CLASSES[command.dataset])


def _mnist_ode(command: CommandLine, config: Config, state: Mapping[str, Tensor]) -> nn.Module:
    return mnist_ode(CLASSES[command.dataset])


def _mnist_global(command: CommandLine, config: Config, state: Mapping[str, Tensor]) -> nn.Module:
    _, options = authors_options(WIDTH, config)
    return mnist_network([GlobalLayer(WIDTH, **options)], CLASSES[command.dataset])


def _maker(config: Config) -> Callable[[int], nn.Module]:
    """Makes Global layers; that the velocity comes from f is not passed on to them."""

    def make(channels: int) -> nn.Module:
        _, options = authors_options(channels, {**config, "use_f_for_g": False})
        return GlobalLayer(channels, **options)

    return make


def _init_block(published: str, state: Mapping[str, Tensor]) -> str:
    """The published code's, unless the weights are of an earlier version without one."""
    return published if any(".init_h." in name for name in state) else "default"


_BUILDERS: dict[str, Builder] = {
    "Resnet": partial(_resnet, has_global=False),
    "Resnet-Global": partial(_resnet, has_global=True),
    "WideResnet": partial(_wide_resnet, has_global=False),
    "WideResnet-Global": partial(_wide_resnet, has_global=True),
    "Densenet": partial(_densenet, has_global=False),
    "Densenet-Global": partial(_densenet, has_global=True),
    "DARTS": partial(_darts, has_global=False),
    "DARTS-Global": partial(_darts, has_global=True),
    "m_resnet": _mnist_resnet,
    "m_odenet": _mnist_ode,
    "m_global": _mnist_global,
}
