"""The convolutions that are timed are those of the paper, and the figures say what they are."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condense.errors import ConfigError
from condense.layers import (
    CirculantReactionDiffusion,
    ExplicitReactionDiffusion,
)
from condense.measurement import Timing
from condense.measurement.bench_convs import (
    DT,
    ConvBench,
    Point,
    Weights,
    bench_convs,
    operators,
    sweeps,
)

EXACT = {"rtol": 0.0, "atol": 1e-10}
POINTS = [
    Point(channels=3, size=6, kernel_size=3),
    Point(channels=4, size=7, kernel_size=5),
    Point(channels=2, size=3, kernel_size=7),
]


def drawn(point: Point) -> Weights:
    found = Weights.drawn(point, "cpu")
    return Weights(
        full=found.full.double(), stencils=found.stencils.double(), blocks=found.blocks.double()
    )


def maps(point: Point) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (2, point.channels, point.size, point.size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def periodic(point: Point, kernel: Tensor) -> Tensor:
    """The matrix of a convolution with a full kernel on a torus, entry by entry."""
    c, n, k = point.channels, point.size, point.kernel_size
    matrix = torch.zeros(c, n, n, c, n, n, dtype=torch.float64)
    for i, j, row, column, a, b in product(
        range(c), range(c), range(n), range(n), range(k), range(k)
    ):
        target = ((row + a - k // 2) % n, (column + b - k // 2) % n)
        matrix[i, row, column, j, target[0], target[1]] += kernel[i, j, a, b]
    return matrix.reshape(c * n * n, -1)


def spread(stencils: Tensor) -> Tensor:
    """As a full kernel, zero off the diagonal."""
    return torch.diag_embed(stencils.permute(1, 2, 0)).permute(2, 3, 0, 1)


def wound(blocks: Tensor) -> Tensor:
    """As a full kernel, with the same blocks along the wrapped diagonals."""
    count = len(blocks)
    rows = [torch.stack([blocks[(j - i) % count] for j in range(count)]) for i in range(count)]
    return torch.stack(rows)


@pytest.mark.parametrize("point", POINTS)
def test_they_are_what_the_paper_defines(point: Point) -> None:
    weights, y = drawn(point), maps(point)
    found = {name: run(y).flatten(1) for name, run in operators(point, weights).items()}
    reach = point.kernel_size // 2
    depthwise = F.conv2d(y, spread(weights.stencils), padding=reach)
    flipped = spread(weights.stencils.flip(1, 2))
    k = periodic(point, spread(weights.stencils))
    system = torch.eye(len(k), dtype=torch.float64) + DT * k.T @ k
    wide = periodic(point, wound(weights.blocks))
    expected = {
        "full": F.conv2d(y, weights.full, padding=reach).flatten(1),
        "depthwise": depthwise.flatten(1),
        "explicit": F.conv2d(depthwise, flipped, padding=reach).flatten(1),
        "implicit": torch.linalg.solve(system, y.flatten(1).T).T,
        "circulant": y.flatten(1) @ (wide.T @ wide).T,
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **EXACT)


def test_they_are_those_of_the_layers() -> None:
    point = POINTS[0]
    weights, y = drawn(point), maps(point)
    found = operators(point, weights)
    explicit = ExplicitReactionDiffusion(point.channels).double()
    circulant = CirculantReactionDiffusion(point.channels).double()
    with torch.no_grad():
        explicit.diffusion.weight.copy_(weights.stencils.unsqueeze(1))
        circulant.stencils.copy_(weights.blocks)
        eigenvalues = circulant.eigenvalues(point.size, point.size)
        torch.testing.assert_close(found["explicit"](y), explicit.diffused(y), **EXACT)
        torch.testing.assert_close(
            found["circulant"](y), circulant.diffused(y, eigenvalues), **EXACT
        )


def test_one_parameter_is_varied_at_a_time() -> None:
    at = Point(channels=8, size=16, kernel_size=3)
    size, kernel, channels = sweeps(at, sizes=[4, 8], kernel_sizes=[3, 5], channels=[2, 4])
    assert size.points == (Point(channels=8, size=4), Point(channels=8, size=8))
    assert kernel.points == (at, Point(channels=8, size=16, kernel_size=5))
    assert channels.points == (Point(channels=2, size=16), Point(channels=4, size=16))
    assert size.title == "by image size (kernel size 3, channels 8)"
    assert kernel.title == "by kernel size (image size 16, channels 8)"
    assert [sweep.value(sweep.points[1]) for sweep in (size, kernel, channels)] == [8, 5, 4]
    (only,) = sweeps(at, sizes=[], kernel_sizes=[], channels=[3])
    assert only.axis == "channels"


def test_ratios_are_to_the_full_convolution_of_the_same_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[str, Any]] = []

    def interleave(runs: dict[str, Any], **how: Any) -> dict[str, Timing]:
        seen.append(how)
        factors = {"full": 4.0, "depthwise": 1.0, "explicit": 2.0, "implicit": 3.0}
        return {name: Timing((len(seen) * factors.get(name, 8.0),) * 3) for name in runs}

    monkeypatch.setattr("condense.measurement.bench_convs.interleave", interleave)
    panels = sweeps(Point(channels=2, size=4), sizes=[3, 5], kernel_sizes=[], channels=[])
    found = bench_convs(panels, batch_size=3, repeats=7).to_dict()
    assert [how["repeats"] for how in seen] == [7, 7]
    assert found["kind"] == "convs"
    for value in (3, 5):
        own = [item for item in found["figures"] if item["value"] == value]
        ratios = {item["convolution"]: item["ratio"][1] for item in own}
        assert ratios == {
            **{"full": 1.0, "depthwise": 0.25, "explicit": 0.5},
            **{"implicit": 0.75, "circulant": 2.0},
        }
        assert {(item["size"], item["channels"], item["kernel_size"]) for item in own} == {
            (value, 2, 3)
        }
        assert {item["batch_size"] for item in own} == {3}


def test_it_runs_for_real() -> None:
    panels = sweeps(Point(channels=2, size=4), sizes=[4], kernel_sizes=[3, 5], channels=[])
    found = bench_convs(panels, batch_size=1, repeats=2)
    assert isinstance(found, ConvBench)
    assert len(found.figures) == 3 * 5
    assert all(item.figure.timing.median_ms > 0 for item in found.figures)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ({"size": 0}, "size must be a whole number >= 1, got 0"),
        ({"channels": 0}, "channels must be a whole number >= 1, got 0"),
    ],
)
def test_what_cannot_be_convolved(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Point(**{"channels": 2, "size": 4, **values})


def test_nothing_to_vary_or_to_run_is_an_error() -> None:
    at = Point(channels=2, size=4)
    with pytest.raises(ConfigError, match="there is nothing to vary"):
        sweeps(at, sizes=[], kernel_sizes=[], channels=[])
    with pytest.raises(ConfigError, match="batch_size must be a whole number >= 1, got 0"):
        bench_convs(sweeps(at, sizes=[3], kernel_sizes=[], channels=[]), batch_size=0)
