"""The tables of this package. Look them up through `condense.layers`, where they are complete."""

from collections.abc import Callable

from torch import nn

from condense.registry import Registry

LAYERS: Registry[type[nn.Module]] = Registry("layer", group="condense.layers")
"""What can take the place of a repeat: built as `LAYERS[name](channels, **options)`."""

BLOCKS: Registry[Callable[..., nn.Module]] = Registry("block")
"""What can stand in a Global layer for a coefficient's convolution or as its init block."""

ACTIVATIONS: Registry[type[nn.Module]] = Registry("activation")
"""Activations by name, as options and plans spell them."""

for _name, _activation in {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}.items():
    ACTIVATIONS.register(_name)(_activation)
