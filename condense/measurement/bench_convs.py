"""The convolutions of the low-cost paper against a full one, alone: its Figure 1.

    full        K y, all channels to all
    depthwise   Kdw y
    explicit    Kdwᵀ Kdw y, two depthwise convolutions
    implicit    (I + dt Kdwᵀ Kdw)⁻¹ y, by a Fourier transform of each map
    circulant   Kcircᵀ Kcirc y, by a Fourier transform over channels, rows and columns

The operators are those of the reaction–diffusion layers, with stencils of any odd size. Weights
are constant, so what depends on them alone (the spectra) is computed beforehand, as in a network
that is used and not trained. One parameter is varied at a time.

Low-Cost Parameterizations of Deep Convolutional Neural Networks, ICLR 2019 submission.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.errors import ConfigError
from condense.layers.options import check_whole
from condense.layers.spectra import filtered, spectrum, squared
from condense.measurement.bench_cases import REPEATS, Figure
from condense.measurement.machine import environment
from condense.measurement.timing import interleave, ratio_interval

Operator = Callable[[Tensor], Tensor]
FULL = "full"
DT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is convolved.

    Args:
        channels: C.
        size: Rows and columns of the maps.
        kernel_size: k, odd.

    Raises:
        ConfigError: If one of them is no whole number >= 1, or the kernel has no centre.
    """

    channels: int
    size: int
    kernel_size: int = 3

    def __post_init__(self) -> None:
        check_whole("channels", self.channels)
        check_whole("size", self.size)
        check_whole("kernel_size", self.kernel_size)
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size must be odd, got {self.kernel_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One parameter over its values, the others fixed: a panel of the figure.

    Args:
        axis: What is varied.
        points: One for each value.
    """

    axis: str
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """What is varied and what is not."""
        names = {"image size": "size", "kernel size": "kernel_size", "channels": "channels"}
        fixed = (
            f"{axis} {getattr(self.points[0], name)}"
            for axis, name in names.items()
            if axis != self.axis
        )
        return f"by {self.axis} ({', '.join(fixed)})"

    def value(self, point: Point) -> int:
        """Of the parameter that is varied."""
        by_axis = {"image size": point.size, "kernel size": point.kernel_size}
        return by_axis.get(self.axis, point.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvFigure:
    """What one convolution took at one point.

    Args:
        sweep: That the point belongs to.
        point: What was convolved.
        case: Which convolution.
        figure: Its time, and the ratio to the full convolution's.
    """

    sweep: Sweep
    point: Point
    case: str
    figure: Figure

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.figure.to_dict() | {
            "axis": self.sweep.axis,
            "value": self.sweep.value(self.point),
            "convolution": self.case,
            "channels": self.point.channels,
            "size": self.point.size,
            "kernel_size": self.point.kernel_size,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvBench:
    """The figure: its panels, one after the other.

    Args:
        figures: All of them.
        device: Where it was measured.
    """

    figures: tuple[ConvFigure, ...]
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the machine."""
        return {
            "kind": "convs",
            "subject": "convolutions of the low-cost paper against the full one",
            "device": self.device,
            "figures": [item.to_dict() for item in self.figures],
            "sums": [],
            "skipped": [],
            "notes": [f"on {self.device}; forward alone, the spectra of the weights at hand"],
            "environment": environment(),
        }


def sweeps(
    at: Point, *, sizes: Sequence[int], kernel_sizes: Sequence[int], channels: Sequence[int]
) -> tuple[Sweep, ...]:
    """The three panels of the figure; one without values is left out.

    Args:
        at: What each of them keeps fixed, apart from its own parameter.
        sizes: Rows and columns.
        kernel_sizes: k.
        channels: C.

    Raises:
        ConfigError: If there is nothing to vary, or a value cannot be.
    """
    c, n, k = at.channels, at.size, at.kernel_size
    panels = (
        ("image size", [Point(channels=c, size=value, kernel_size=k) for value in sizes]),
        ("kernel size", [Point(channels=c, size=n, kernel_size=value) for value in kernel_sizes]),
        ("channels", [Point(channels=value, size=n, kernel_size=k) for value in channels]),
    )
    found = tuple(Sweep(axis=axis, points=tuple(points)) for axis, points in panels if points)
    if not found:
        raise ConfigError("there is nothing to vary", hint="for example --sizes 16,32,64")
    return found


def bench_convs(
    panels: Sequence[Sweep],
    *,
    batch_size: int = 4,
    repeats: int = REPEATS,
    device: torch.device | str = "cpu",
) -> ConvBench:
    """Time the convolutions against the full one at every point.

    Args:
        panels: From `sweeps`.
        batch_size: Maps at a time.
        repeats: Rounds.
        device: Where.

    Raises:
        ConfigError: If a number is below 1.
    """
    check_whole("batch_size", batch_size)
    figures = [
        figure
        for sweep in panels
        for point in sweep.points
        for figure in _timed(sweep, point, batch_size, repeats, device)
    ]
    return ConvBench(figures=tuple(figures), device=str(torch.device(device)))


def operators(point: Point, weights: "Weights") -> dict[str, Operator]:
    """The convolutions by name, the full one first.

    Args:
        point: What will be convolved.
        weights: Of all of them.
    """
    channels, reach = point.channels, point.kernel_size // 2
    full, stencils, blocks = weights.full, weights.stencils, weights.blocks
    k = stencils.unsqueeze(1)
    dampened = 1 / (1 + DT * squared(spectrum(stencils, point.size, point.size)))
    planes = torch.fft.ifft(spectrum(blocks, point.size, point.size), dim=0, norm="forward")
    eigenvalues = squared(planes)

    def depthwise(y: Tensor) -> Tensor:
        return F.conv2d(y, k, padding=reach, groups=channels)

    def explicit(y: Tensor) -> Tensor:
        return F.conv_transpose2d(depthwise(y), k, padding=reach, groups=channels)

    return {
        FULL: lambda y: F.conv2d(y, full, padding=reach),
        "depthwise": depthwise,
        "explicit": explicit,
        "implicit": lambda y: filtered(y, dampened),
        "circulant": lambda y: filtered(y, eigenvalues, axes=(1, 2, 3)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of all convolutions at a point.

    Args:
        full: (C, C, k, k).
        stencils: (C, k, k), one for each channel.
        blocks: (C, k, k), of the circulant one: from channel j to i leads number (j − i) mod C.
    """

    full: Tensor
    stencils: Tensor
    blocks: Tensor

    @classmethod
    def drawn(cls, point: Point, device: torch.device | str) -> "Weights":
        """Seeded noise, as large as initial weights are."""
        c, k = point.channels, point.kernel_size
        generator = torch.Generator().manual_seed(0)
        full, stencils, blocks = (
            torch.randn(shape, generator=generator).to(device) / math.sqrt(inputs * k * k)
            for shape, inputs in (((c, c, k, k), c), ((c, k, k), 1), ((c, k, k), c))
        )
        return cls(full=full, stencils=stencils, blocks=blocks)


@torch.no_grad()
def _timed(
    sweep: Sweep, point: Point, batch_size: int, repeats: int, device: torch.device | str
) -> Iterator[ConvFigure]:
    shape = (batch_size, point.channels, point.size, point.size)
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    cases = operators(point, Weights.drawn(point, device))
    runs = {name: _bound(run, maps) for name, run in cases.items()}
    timings = interleave(runs, repeats=repeats, device=maps.device)
    for name, timing in timings.items():
        figure = Figure(
            place=sweep.title,
            case=f"{sweep.value(point)}: {name}",
            runtime="torch",
            kernel=None,
            batch_size=batch_size,
            threads=torch.get_num_threads(),
            timing=timing,
            ratio=ratio_interval(timing, timings[FULL]),
        )
        yield ConvFigure(sweep=sweep, point=point, case=name, figure=figure)


def _bound(run: Operator, maps: Tensor) -> Callable[[], object]:
    return lambda: run(maps)
