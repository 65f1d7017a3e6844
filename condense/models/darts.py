"""Networks of searched cells (DARTS), and the same with Global layers before the reductions.

H. Liu, K. Simonyan, Y. Yang: DARTS: Differentiable Architecture Search, ICLR 2019.
A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.

Modules are named as in the latter's code: `stem`, `cells.N` (a cell, or a Global layer with a cell
as init block), `auxiliary_head`, `classifier`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import DartsCell, GlobalLayer
from condense.models.projection_resnet import register

DARTS_V2: Mapping[str, Any] = {
    "normal": [
        ["sep_conv_3x3", 0], ["sep_conv_3x3", 1], ["sep_conv_3x3", 0], ["sep_conv_3x3", 1],
        ["sep_conv_3x3", 1], ["skip_connect", 0], ["skip_connect", 0], ["dil_conv_3x3", 2],
    ],
    "normal_concat": [2, 3, 4, 5],
    "reduce": [
        ["max_pool_3x3", 0], ["max_pool_3x3", 1], ["skip_connect", 2], ["max_pool_3x3", 1],
        ["max_pool_3x3", 0], ["skip_connect", 2], ["skip_connect", 2], ["max_pool_3x3", 1],
    ],
    "reduce_concat": [2, 3, 4, 5],
}  # fmt: skip
"""The cells that the second-order search found."""

STEM = 3
"""Channels of the stem per channel of a node in the first cells."""

GlobalMaker = Callable[[int, dict[str, Any]], nn.Module]
"""Makes the Global layer of so many channels with that init block."""


class DartsNetwork(nn.Module):
    """A stem and a chain of cells, each of which sees the two before it.

    Args:
        cells: L; those at L//3 and 2L//3 halve the resolution and double the width.
        width: C, the channels of each node in the first cells.
        num_classes: Outputs.
        in_channels: Channels of the image.
        genotype: The cells; see `condense.layers.DartsCell`.
        make_global: Makes the Global layer before each reduction; None leaves them out.
        auxiliary: Whether a second classifier reads the map behind the second reduction; it takes
            images of 32x32, and in training its outputs come with the others.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes), in training with `auxiliary` two of them.

    Raises:
        ConfigError: If there are too few cells; in `forward`, if a reduction meets an odd side.
    """

    def __init__(  # noqa: PLR0913 - a row of the paper's table each
        self,
        cells: int,
        width: int,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        genotype: Mapping[str, Any] = DARTS_V2,
        make_global: GlobalMaker | None = None,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        least = 3 if make_global is None else 5
        if cells < least:
            raise ConfigError(f"such a DARTS network needs at least {least} cells, got {cells}")
        channels = STEM * width
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.cells = nn.ModuleList()
        before, reduced = channels, False
        for place in range(cells):
            reduces = place in {cells // 3, 2 * cells // 3}
            inputs: dict[str, Any] = {"in_channels": before, "reduction_before": reduced}
            if reduces and make_global is not None:
                self.cells.append(make_global(channels, _init_block(genotype, width, inputs)))
                inputs = {"in_channels": channels}
            width *= 2 if reduces else 1
            cell = DartsCell(channels, width=width, reduction=reduces, genotype=genotype, **inputs)
            self.cells.append(cell)
            before, channels, reduced = channels, cell.out_channels, reduces
            if reduces:
                self.seen, seen_channels = len(self.cells) - 1, channels
        self.auxiliary_head = AuxiliaryHead(seen_channels, num_classes) if auxiliary else None
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        s0 = s1 = seen = self.stem(x)
        for place, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if place == self.seen:
                seen = s1
        scores: Tensor = self.classifier(self.global_pooling(s1).flatten(1))
        if self.training and self.auxiliary_head is not None:
            return scores, self.auxiliary_head(seen)
        return scores


class AuxiliaryHead(nn.Module):
    """A classifier of an 8x8 map, for training only.

    Shape:
        (N, channels, 8, 8) -> (N, num_classes).
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(x).flatten(1))
        return scores


def darts_global(  # noqa: PLR0913 - a row of the paper's table each
    cells: int,
    width: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    steps: int = 1,
    diffusion: float | None = None,
    auxiliary: bool = False,
) -> DartsNetwork:
    """A DARTS network with biased Global layers before its reductions.

    Args:
        cells: L.
        width: C.
        num_classes: Outputs.
        in_channels: Channels of the image.
        steps: K of every Global layer.
        diffusion: A constant Dx = Dy; learnt by default.
        auxiliary: As of `DartsNetwork`.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    coefficients: dict[str, Any] = {"bias": True}
    if diffusion is not None:
        coefficients["diffusion"] = diffusion

    def make(channels: int, init: dict[str, Any]) -> nn.Module:
        return GlobalLayer(channels, steps=steps, init=init, coefficients=coefficients)

    return DartsNetwork(
        cells, width, num_classes, in_channels, make_global=make, auxiliary=auxiliary
    )


def _init_block(genotype: Mapping[str, Any], width: int, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"block": "darts-cell", "genotype": genotype, "width": width, **inputs}


_NETWORKS: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "darts": (partial(DartsNetwork, 20, 36), "DARTS: 20 cells of the genotype DARTS_V2, C=36"),
    "darts_global": (
        partial(darts_global, 6, 36, diffusion=1.0),
        "DARTS-Global: 6 cells, C=36, two Global layers, constant diffusion, biased coefficients",
    ),
    "darts_global_large": (
        partial(darts_global, 9, 48),
        "DARTS-Global large: 9 cells, C=48, two Global layers, biased coefficients",
    ),
    "darts_tiny": (partial(DartsNetwork, 20, 3), "the tiny DARTS: 20 cells, C=3"),
    "darts_tiny_global": (
        partial(darts_global, 7, 5, diffusion=1.0),
        "the tiny DARTS-Global: 7 cells, C=5, constant diffusion, biased coefficients",
    ),
}

for _name, (_build, _note) in _NETWORKS.items():
    register(_name, _build, _note, recipe="darts")
