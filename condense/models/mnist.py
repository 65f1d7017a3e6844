"""Networks for MNIST with one body between the same ends: residual blocks, an ODE, a Global layer.

The ends: three convolutions down to 64 maps of 6x6, normalised in groups; pooling and a classifier.

    ODE    ∂x/∂t = GN(conv(t, s(GN(conv(t, s(GN(x)))))),    t from 0 to 1

R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations,
NeurIPS 2018.
A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.

The layers are numbered in a row, as in the authors' code.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.errors import CondenseError, ConfigError
from condense.layers import GlobalLayer
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec

WIDTH, GROUPS = 64, 32
TOLERANCE = 1e-3
"""Of the adaptive solver, absolute and relative."""

Solver = Literal["rk4", "dopri5"]


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
    num_classes: int = 10, in_channels: int = 1, *, solver: Solver = "rk4", steps: int = 8
) -> nn.Sequential:
    """With an ordinary differential equation as its body; see `OdeBlock`."""
    return mnist_network([OdeBlock(solver=solver, steps=steps)], num_classes, in_channels)


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


class OdeBlock(nn.Module):
    """x(1) of an equation that starts at its input.

    Args:
        solver: `rk4`, the classical Runge–Kutta method with equal steps, which a counter and ONNX
            can follow; or `dopri5`, the paper's: adaptive, by torchdiffeq.
        steps: Of `rk4`; eight of them evaluate the equation 32 times, as often as the paper's
            solver does for its table.

    Shape:
        (N, 64, H, W) -> (N, 64, H, W).

    Raises:
        ConfigError: If an option has a value that it cannot take.
        CondenseError: In `forward`, if torchdiffeq is needed and missing.
    """

    def __init__(self, *, solver: Solver = "rk4", steps: int = 8) -> None:
        super().__init__()
        if solver not in {"rk4", "dopri5"}:
            raise ConfigError(f"solver must be rk4 or dopri5, got {solver!r}")
        if steps < 1:
            raise ConfigError(f"steps must be a whole number >= 1, got {steps}")
        self.solver = solver
        self.steps = steps
        self.field = OdeField()

    def forward(self, x: Tensor) -> Tensor:
        if self.solver == "dopri5":
            return _adaptive(self.field, x)
        size = 1 / self.steps
        for step in range(self.steps):
            x = _runge_kutta(self.field, step * size, x, size)
        return x


class OdeField(nn.Module):
    """∂x/∂t at a time t.

    Shape:
        t and (N, 64, H, W) -> (N, 64, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, WIDTH)
        self.conv1 = nn.Conv2d(WIDTH + 1, WIDTH, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, WIDTH)
        self.conv2 = nn.Conv2d(WIDTH + 1, WIDTH, 3, padding=1)
        self.norm3 = nn.GroupNorm(GROUPS, WIDTH)

    def forward(self, t: float | Tensor, x: Tensor) -> Tensor:
        y = self.conv1(_with_time(t, F.relu(self.norm1(x))))
        y = self.conv2(_with_time(t, F.relu(self.norm2(y))))
        out: Tensor = self.norm3(y)
        return out


def _with_time(t: float | Tensor, x: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(x[:, :1]) * t, x], dim=1)


def _runge_kutta(field: nn.Module, t: float, x: Tensor, size: float) -> Tensor:
    a = field(t, x)
    b = field(t + size / 2, x + size / 2 * a)
    c = field(t + size / 2, x + size / 2 * b)
    d = field(t + size, x + size * c)
    out: Tensor = x + size / 6 * (a + 2 * b + 2 * c + d)
    return out


def _adaptive(field: nn.Module, x: Tensor) -> Tensor:
    try:
        from torchdiffeq import odeint  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CondenseError(
            "torchdiffeq is not installed; the solver dopri5 needs it",
            hint="pip install -e '.[baselines]', or use the solver rk4",
        ) from error
    times = torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device)
    states: Tensor = odeint(field, x, times, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")
    return states[-1]


_NETWORKS: dict[str, tuple[Callable[..., Any], str]] = {
    "mnist_resnet": (mnist_resnet, "MNIST with six residual blocks"),
    "mnist_ode": (
        mnist_ode,
        "MNIST with a neural ODE; 32 evaluations, by eight Runge–Kutta steps unless "
        "solver='dopri5' asks for the paper's adaptive solver",
    ),
    "mnist_global": (mnist_global, "MNIST with one Global layer: K=1, constant diffusion"),
}

for _name, (_build, _note) in _NETWORKS.items():
    MODELS.register(_name)(ModelSpec(_build, (1, 28, 28), *NORMALIZATIONS["mnist"], _note))
