"""Networks for MNIST with one body between the same ends: residual blocks, an equation, a layer.

The ends: three convolutions down to 64 maps of 6x6, normalised in groups; pooling and a classifier.
The bodies: six residual blocks; the Neural-ODE's equation; NeuPDE's; one Global layer.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.

The layers are numbered in a row, as in the authors' code.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from condense.layers import GlobalLayer
from condense.models.neupde import NeuPdeField
from condense.models.ode import GROUPS, OdeBlock, OdeField, Solver
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec

WIDTH = 64
HIDDEN = 80
"""Of NeuPDE's perceptron: with it, the network has the 180K parameters that are printed."""


def mnist_network(
    body: Iterable[nn.Module], num_classes: int = 10, in_channels: int = 1
) -> nn.Sequential:
    """The two ends with a body between them.

    Args:
        body: Keeps 64 maps of 6x6.
        num_classes: Outputs.
        in_channels: Channels of the image.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    down = partial(nn.Conv2d, WIDTH, WIDTH, 4, stride=2, padding=1)
    return nn.Sequential(
        nn.Conv2d(in_channels, WIDTH, 3),
        nn.GroupNorm(GROUPS, WIDTH),
        nn.ReLU(),
        down(),
        nn.GroupNorm(GROUPS, WIDTH),
        nn.ReLU(),
        down(),
        *body,
        nn.GroupNorm(GROUPS, WIDTH),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTH, num_classes),
    )


def mnist_resnet(num_classes: int = 10, in_channels: int = 1, *, blocks: int = 6) -> nn.Sequential:
    """With so many residual blocks as its body."""
    return mnist_network((GroupNormBlock() for _ in range(blocks)), num_classes, in_channels)


def mnist_global(
    num_classes: int = 10, in_channels: int = 1, *, steps: int = 1, bias: bool = False
) -> nn.Sequential:
    """With one Global layer of so many steps and constant diffusion as its body."""
    layer = GlobalLayer(WIDTH, steps=steps, coefficients={"bias": bias, "diffusion": 1.0})
    return mnist_network([layer], num_classes, in_channels)


def mnist_ode(
    num_classes: int = 10, in_channels: int = 1, *, solver: Solver = "dopri5", steps: int = 8
) -> nn.Sequential:
    """With the Neural-ODE's equation as its body; see `OdeBlock`."""
    body = OdeBlock(OdeField(WIDTH), solver=solver, steps=steps)
    return mnist_network([body], num_classes, in_channels)


def mnist_neupde(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    solver: Solver = "rk4",
    steps: int = 5,
    hidden: int = HIDDEN,
) -> nn.Sequential:
    """With NeuPDE's equation as its body; see `NeuPdeField`."""
    body = OdeBlock(NeuPdeField(WIDTH, hidden), solver=solver, steps=steps)
    return mnist_network([body], num_classes, in_channels)


class GroupNormBlock(nn.Module):
    """A pre-activation residual block: GN-ReLU-3x3-GN-ReLU-3x3, + x.

    Shape:
        (N, 64, H, W) -> (N, 64, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, WIDTH)
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.relu(self.norm2(y)))
        return out


_NETWORKS: dict[str, tuple[Callable[..., Any], str]] = {
    "mnist_resnet": (mnist_resnet, "MNIST with six residual blocks"),
    "mnist_ode": (
        mnist_ode,
        "MNIST with a neural ODE: dopri5, adaptive, tolerance 1e-3; solver='rk4' takes eight equal "
        "steps, which are 32 evaluations",
    ),
    "mnist_neupde": (
        mnist_neupde,
        "MNIST with NeuPDE: eight terms a channel, a perceptron of width 80, five Runge–Kutta "
        "steps, which are 20 evaluations",
    ),
    "mnist_global": (mnist_global, "MNIST with one Global layer: K=1, constant diffusion"),
}

for _name, (_build, _note) in _NETWORKS.items():
    MODELS.register(_name)(
        ModelSpec(_build, (1, 28, 28), *NORMALIZATIONS["mnist"], _note, recipe="mnist")
    )
