"""Networks whose body is an ordinary differential equation.

    ∂x/∂t = F(t, x),    t from 0 to 1

F is a module that is called with t and x; all times share its weights.

R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations,
NeurIPS 2018.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.errors import CondenseError, ConfigError

TOLERANCE = 1e-3
"""Of the adaptive solver, absolute and relative."""
GROUPS = 32

Solver = Literal["dopri5", "rk4"]


class OdeBlock(nn.Module):
    """x(1) of an equation that starts at its input.

    Args:
        field: F, called with t and x.
        solver: `dopri5`, adaptive, by torchdiffeq: it takes as many steps as the batch needs; or
            `rk4`, the classical Runge–Kutta method with equal steps, which ONNX can follow.
        steps: Of `rk4`, which evaluates F four times in each.

    Shape:
        As the field's x.

    Raises:
        ConfigError: If an option has a value that it cannot take.
        CondenseError: In `forward`, if torchdiffeq is needed and missing, or if the adaptive
            solver is to be exported.
    """

    def __init__(self, field: nn.Module, *, solver: Solver = "dopri5", steps: int = 8) -> None:
        super().__init__()
        if solver not in get_args(Solver):
            raise ConfigError(f"solver must be {' or '.join(get_args(Solver))}, got {solver!r}")
        if steps < 1:
            raise ConfigError(f"steps must be a whole number >= 1, got {steps}")
        self.solver = solver
        self.steps = steps
        self.field = field

    def forward(self, x: Tensor) -> Tensor:
        if self.solver == "dopri5":
            return _adaptive(self.field, x)
        size = 1 / self.steps
        for step in range(self.steps):
            x = _runge_kutta(self.field, step * size, x, size)
        return x


class OdeField(nn.Module):
    """The Neural-ODE's F: GN(conv(t, s(GN(conv(t, s(GN(x))))))), with t as one more channel.

    Args:
        channels: C, a multiple of 32.

    Shape:
        t and (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels + 1, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels + 1, channels, 3, padding=1)
        self.norm3 = nn.GroupNorm(GROUPS, channels)

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
    if torch.compiler.is_exporting():
        raise CondenseError(
            "the solver dopri5 chooses its steps by the data, which a graph cannot",
            hint="make the network with solver='rk4' (--arch-arg solver=rk4); the weights fit both",
        )
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
