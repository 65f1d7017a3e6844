"""The ODE networks of paper A's comparison, for CIFAR: one equation between two ends.

The ends are those of the networks for MNIST, but the first convolution keeps the borders: three
convolutions down to 64 maps of 8x8, normalised in groups; pooling and a classifier.

Paper A prints figures of a NeuPDE for CIFAR, but not its form, and none of a Neural-ODE: the forms
are ours.
"""

from collections import OrderedDict

from torch import nn

from condense.models.mnist import HIDDEN, WIDTH
from condense.models.neupde import NeuPdeField
from condense.models.ode import GROUPS, OdeBlock, OdeField, Solver
from condense.models.projection_resnet import register


def neural_ode(
    num_classes: int = 10, in_channels: int = 3, *, solver: Solver = "dopri5", steps: int = 8
) -> nn.Sequential:
    """With the Neural-ODE's equation between the ends; see `OdeBlock`.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    body = OdeBlock(OdeField(WIDTH), solver=solver, steps=steps)
    return _between_ends(body, num_classes, in_channels)


def neupde(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    solver: Solver = "rk4",
    steps: int = 5,
    hidden: int = HIDDEN,
) -> nn.Sequential:
    """With NeuPDE's equation between the ends; see `NeuPdeField`.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    body = OdeBlock(NeuPdeField(WIDTH, hidden), solver=solver, steps=steps)
    return _between_ends(body, num_classes, in_channels)


def _between_ends(body: nn.Module, num_classes: int, in_channels: int) -> nn.Sequential:
    opening = nn.Sequential(
        nn.Conv2d(in_channels, WIDTH, 3, padding=1),
        nn.GroupNorm(GROUPS, WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, WIDTH, 4, stride=2, padding=1),
        nn.GroupNorm(GROUPS, WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, WIDTH, 4, stride=2, padding=1),
    )
    head = OrderedDict[str, nn.Module](norm=nn.GroupNorm(GROUPS, WIDTH), relu=nn.ReLU())
    head |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    head["fc"] = nn.Linear(WIDTH, num_classes)
    return nn.Sequential(OrderedDict(opening=opening, body=body, head=nn.Sequential(head)))


register(
    "neural_ode",
    neural_ode,
    "CIFAR with a neural ODE at 64 maps of 8x8: dopri5, adaptive, tolerance 1e-3; solver='rk4' "
    "takes equal steps",
)
register(
    "neupde",
    neupde,
    "CIFAR with NeuPDE at 64 maps of 8x8: eight terms a channel, a perceptron of width 80, five "
    "Runge–Kutta steps",
)
