"""The cell of a searched network, as the init block of a Global layer.

H. Liu, K. Simonyan, Y. Yang: DARTS: Differentiable Architecture Search, ICLR 2019.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers.blocks import same_conv
from condense.layers.options import check_known, check_whole
from condense.layers.tables import BLOCKS
from condense.registry import Registry

OPERATIONS: Registry[Callable[[int, int], nn.Module]] = Registry("DARTS operation")
"""What an edge of a cell can be: `OPERATIONS[name](channels, stride)`."""

Edges = Sequence[tuple[str, int]]


@BLOCKS.register("darts-cell")
class DartsCell(nn.Module):
    """Nodes that each add two operations on what came before; some of them side by side.

    Called as `cell(s0, s1)`. In training, every operation that is no identity is left out with the
    probability `drop_path`, an attribute that starts at 0, for each image alone; what is left is
    scaled up in return.

    Args:
        channels: C, the channels of s1.
        in_channels: Channels of s0; C by default.
        width: Channels of each node; C divided by the number of listed nodes by default.
        genotype: `normal`, `reduce`: the edges as pairs of operation and input (0 is s0, 1 is s1,
            2 the first node), two for each node; `normal_concat`, `reduce_concat`: nodes listed.
        reduction: Halve the resolution, by `reduce` instead of `normal`.
        reduction_before: s0 has twice the resolution of s1.

    Shape:
        (N, in_channels, H, W), (N, C, H, W) -> (N, width * listed nodes, H, W).

    Raises:
        ConfigError: If the genotype lacks an entry, or an edge or a node leads nowhere.
    """

    def __init__(  # noqa: PLR0913 - the options of a published block
        self,
        channels: int,
        *,
        genotype: Mapping[str, Any],
        in_channels: int | None = None,
        width: int | None = None,
        reduction: bool = False,
        reduction_before: bool = False,
    ) -> None:
        super().__init__()
        edges, self.listed = _read(genotype, "reduce" if reduction else "normal")
        width = channels // len(self.listed) if width is None else width
        in_channels = channels if in_channels is None else in_channels
        check_whole("width", width)
        check_whole("in_channels", in_channels)
        self.out_channels = width * len(self.listed)
        self.keeps_shape = not reduction and self.out_channels == channels
        enter = FactorizedReduce if reduction_before else relu_conv_bn
        self.preprocess0 = enter(in_channels, width)
        self.preprocess1 = relu_conv_bn(channels, width)
        self.sources = tuple(source for _, source in edges)
        self.ops = nn.ModuleList(
            OPERATIONS[name](width, 2 if reduction and source < 2 else 1) for name, source in edges
        )
        self.drop_path = 0.0

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        edges = [(op, source) for op, source in zip(self.ops, self.sources, strict=True)]
        for (left, i), (right, j) in zip(edges[::2], edges[1::2], strict=True):
            states.append(self._edge(left, states[i]) + self._edge(right, states[j]))
        return torch.cat([states[node] for node in self.listed], dim=1)

    def _edge(self, op: nn.Module, state: Tensor) -> Tensor:
        out: Tensor = op(state)
        if not self.training or self.drop_path == 0 or isinstance(op, nn.Identity):
            return out
        kept = torch.rand(len(out), 1, 1, 1, device=out.device) >= self.drop_path
        return out * kept / (1 - self.drop_path)


class FactorizedReduce(nn.Module):
    """Half the resolution: ReLU, two stride-2 1x1 convolutions side by side, BN.

    The second one sees the map shifted by one pixel both ways: together they see more of it.

    Args:
        in_channels: Channels in.
        channels: Channels out.

    Shape:
        (N, in_channels, H, W) -> (N, channels, H / 2, W / 2).

    Raises:
        ConfigError: In `forward`, if a side is odd.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.relu = nn.ReLU()
        self.conv_1 = same_conv(in_channels, half, 1, stride=2)
        self.conv_2 = same_conv(in_channels, channels - half, 1, stride=2)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 2 or x.shape[3] % 2:
            size = f"{x.shape[2]}x{x.shape[3]}"
            raise ConfigError(f"a reduction needs a map with even sides, got {size}")
        x = self.relu(x)
        out: Tensor = self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))
        return out


def relu_conv_bn(in_channels: int, channels: int) -> nn.Sequential:
    """ReLU-1x1-BN."""
    return nn.Sequential(nn.ReLU(), same_conv(in_channels, channels, 1), nn.BatchNorm2d(channels))


def _separable(channels: int, kernel_size: int, stride: int, dilation: int) -> list[nn.Module]:
    return [
        nn.ReLU(),
        same_conv(
            channels, channels, kernel_size, stride=stride, dilation=dilation, groups=channels
        ),
        same_conv(channels, channels, 1),
        nn.BatchNorm2d(channels),
    ]


def _twice_separable(kernel_size: int) -> Callable[[int, int], nn.Module]:
    def build(channels: int, stride: int) -> nn.Module:
        first = _separable(channels, kernel_size, stride, 1)
        return nn.Sequential(*first, *_separable(channels, kernel_size, 1, 1))

    return build


def _dilated(kernel_size: int) -> Callable[[int, int], nn.Module]:
    return lambda channels, stride: nn.Sequential(*_separable(channels, kernel_size, stride, 2))


def _skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


def _max_pool(channels: int, stride: int) -> nn.Module:
    return nn.MaxPool2d(3, stride=stride, padding=1)


def _average_pool(channels: int, stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


OPERATIONS.register("skip_connect")(_skip)
OPERATIONS.register("max_pool_3x3")(_max_pool)
OPERATIONS.register("avg_pool_3x3")(_average_pool)
for _size in (3, 5, 7):
    OPERATIONS.register(f"sep_conv_{_size}x{_size}")(_twice_separable(_size))
for _size in (3, 5):
    OPERATIONS.register(f"dil_conv_{_size}x{_size}")(_dilated(_size))


def _read(genotype: Mapping[str, Any], kind: str) -> tuple[Edges, tuple[int, ...]]:
    if not isinstance(genotype, Mapping):
        raise ConfigError(f"a genotype must be a mapping with {kind!r}, got {genotype!r}")
    check_known(genotype, ("normal", "normal_concat", "reduce", "reduce_concat"), "a genotype")
    if kind not in genotype or f"{kind}_concat" not in genotype:
        raise ConfigError(f"the genotype has no {kind!r} and '{kind}_concat'")
    edges = [(str(name), int(source)) for name, source in genotype[kind]]
    listed = tuple(int(node) for node in genotype[f"{kind}_concat"])
    nodes = 2 + len(edges) // 2
    if len(edges) % 2 or not edges or not listed:
        raise ConfigError(f"a cell needs two edges for each node, got {len(edges)} edges")
    for place, (name, source) in enumerate(edges):
        if not 0 <= source < 2 + place // 2:
            raise ConfigError(f"edge {place} ({name}) starts at node {source}, which comes later")
    if not all(0 <= node < nodes for node in listed):
        raise ConfigError(f"the genotype lists nodes {listed}, but there are {nodes}")
    return edges, listed
