"""The MNIST-10 example of the Global-layer paper: three backbones of one channel and one size.

    f = conv3(ReLU(BN x))        g = conv3(ReLU(BN f))

    Convolution  g        Residual  ReLU(BN(f + g))        Global  ReLU(BN(h(K))), u = v = g, D = 1

Each has 524 parameters; the convolution's last BatchNorm is there for that and is not used.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

from collections import OrderedDict
from functools import partial
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import Coefficients, Grid, Scheme, evolve
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec

Kind = Literal["convolution", "residual", "global"]
PIXELS = 49
"""Of a 28x28 image, after pooling by 4."""


class Backbone(nn.Module):
    """One of the three ways to make a feature map of the image.

    Args:
        kind: Which.
        in_channels: Channels of the image.
        steps: K of the Global one.
        dt: Its time step.

    Shape:
        (N, in_channels, H, W) -> (N, 1, H, W).
    """

    def __init__(
        self, kind: Kind, in_channels: int = 1, *, steps: int = 5, dt: float = 0.2
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        self.kind: Kind = kind
        self.steps = steps
        self.dt = dt
        self.scheme: Scheme = "reference"
        self.grid = Grid()
        self.bn_f = nn.BatchNorm2d(in_channels)
        self.conv_f = nn.Conv2d(in_channels, 1, 3, padding=1, bias=False)
        self.bn_g = nn.BatchNorm2d(1)
        self.conv_g = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.bn_out = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        h, f = self.initial_state(x)
        c = self.coefficients(h, f)
        if self.kind == "convolution":
            return c.u
        state = f + c.u if self.kind == "residual" else self.evolve(h, f, c)
        return F.relu(self.bn_out(state))

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """h(0) and the source: both are f.

        Shape:
            (N, in_channels, H, W) -> two of (N, 1, H, W).
        """
        f = self.conv_f(F.relu(self.bn_f(x)))
        return f, f

    def coefficients(self, h: Tensor, f: Tensor) -> Coefficients:
        """The velocity, g along both axes, and the diffusion, 1 along both.

        Shape:
            (N, 1, H, W) twice -> fields of (N, 1, H, W); the diffusion is (1, 1, H, W).
        """
        g = self.conv_g(F.relu(self.bn_g(f)))
        one = h.new_ones(1, 1, *h.shape[2:])
        return Coefficients(g, g, one, one)

    def evolve(self, h: Tensor, f: Tensor, c: Coefficients) -> Tensor:
        """The state after K steps.

        Shape:
            (N, 1, H, W) -> (N, 1, H, W).
        """
        return evolve(
            h, f, c, before=f, dt=self.dt, steps=self.steps, grid=self.grid, scheme=self.scheme
        )


def mnist10(
    kind: Kind, num_classes: int = 10, in_channels: int = 1, *, steps: int = 5
) -> nn.Sequential:
    """A backbone and a linear classifier of its map, pooled by 4.

    Args:
        kind: Of the backbone; its module is named after it, as the weights of all have the same
            shapes.
        num_classes: Outputs.
        in_channels: Channels of the image.
        steps: K of the Global backbone.

    Shape:
        (N, in_channels, 28, 28) -> (N, num_classes).
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts[f"backbone_{kind}"] = Backbone(kind, in_channels, steps=steps)
    parts |= {"pool": PoolByFour(), "fc": nn.Linear(PIXELS, num_classes)}
    return nn.Sequential(parts)


class PoolByFour(nn.Module):
    """Rectified, averaged over 4x4 pixels, in a row.

    Shape:
        (N, C, H, W) -> (N, C · H/4 · W/4).
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(x), 4).flatten(1)


for _kind in get_args(Kind):
    MODELS.register(f"mnist10_{_kind}")(
        ModelSpec(
            partial(mnist10, _kind),
            (1, 28, 28),
            *NORMALIZATIONS["mnist"],
            f"the MNIST-10 example's {_kind} backbone, 524 parameters",
            recipe="mnist",
        )
    )
