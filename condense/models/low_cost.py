"""The low-cost networks: reaction–diffusion steps, and what they are compared with.

An opening, blocks of four steps at one width, and after every block a layer that doubles the
channels and halves the resolution. Widths: A 32-64-128, B 48-96-192, C 32-64-128-256.

Low-Cost Parameterizations of Deep Convolutional Neural Networks, ICLR 2019 submission.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import LAYERS, Connect
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec

WIDTHS: dict[str, tuple[int, ...]] = {
    "a": (32, 64, 128),
    "b": (48, 96, 192),
    "c": (32, 64, 128, 256),
}
STEPS = 4
"""Steps of each block."""


class ResidualStep(nn.Module):
    """y + K2 s(N(K1 y)): two full 3x3 convolutions; N is BatchNorm without affine parameters.

    Args:
        channels: C. The step has 18 C² parameters.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = y + self.conv2(self.relu(self.norm(self.conv1(y))))
        return out


def low_cost(
    kind: str,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    widths: tuple[int, ...] = WIDTHS["a"],
) -> nn.Sequential:
    """A low-cost network.

    The blocks are named after the kind of their steps: the weights of several kinds have the same
    shapes.

    Args:
        kind: One of `KINDS`.
        num_classes: Outputs.
        in_channels: Channels of the image.
        widths: Channels of each block, each twice those before it.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).

    Raises:
        ConfigError: If the widths do not double.
    """
    if any(after != 2 * before for before, after in pairwise(widths)):
        raise ConfigError(f"each width must be twice the one before, got {widths}")
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        opening=nn.Conv2d(in_channels, widths[0], 5, padding=2, bias=False),
        norm=nn.BatchNorm2d(widths[0], affine=False),
        relu=nn.ReLU(),
    )
    for number, width in enumerate(widths, start=1):
        steps = (KINDS[kind](width) for _ in range(STEPS))
        parts[f"{kind}{number}"] = nn.Sequential(*steps)
        parts[f"connect{number}"] = Connect(width)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["classifier"] = nn.Linear(2 * widths[-1], num_classes)
    return nn.Sequential(parts)


KINDS: dict[str, Callable[[int], nn.Module]] = {
    "resnet": ResidualStep,
    "linear_mix": LAYERS["linear-mix"],
    "mobilenet": LAYERS["mobilenet"],
    "rd_explicit": LAYERS["rd-explicit"],
    "rd_implicit": LAYERS["rd-implicit"],
    "rd_circulant": LAYERS["rd-circulant"],
}
"""The steps of the paper by name."""

for _kind in KINDS:
    for _letter, _widths in WIDTHS.items():
        MODELS.register(f"lowcost_{_kind}_{_letter}")(
            ModelSpec(
                partial(low_cost, _kind, widths=_widths),
                (3, 32, 32),
                *NORMALIZATIONS["cifar10"],
                f"low-cost network of {_kind.replace('_', '-')} steps, "
                f"{_letter.upper()}: widths {'-'.join(map(str, _widths))}",
                recipe="lowcost-cifar",
            )
        )
