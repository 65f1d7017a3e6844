"""Eigenvectors of the second difference along one axis, in closed form for every boundary.

    (S h)[i] = 2 h[i] − h[i − s] − h[i + s] = B diag(λ) Bᵀ h,    B orthogonal and real, s the shift

* periodic: B[i, k] = (cos + sin)(2π i k / n) / √n, Hartley's basis;    λ = 4 sin²(π k s / n)
* replicate, s = 1: B[i, k] = √(2/n) cos(π (i + ½) k / n), and √(1/n) for k = 0;
  λ = 4 sin²(π k / 2n)
* zero: pixels s apart form chains of m pixels; with a and c counting within the same one
  B[i, k] = √(2/(m+1)) sin(π (a+1) (c+1) / (m+1));    λ = 4 sin²(π (c+1) / (2 (m+1)))

S + T on a map is diagonal in the products of the vectors of its axes: R. E. Lynch, J. R. Rice,
D. H. Thomas: Direct Solution of Partial Difference Equations by Tensor Product Methods,
Numerische Mathematik, 1964. The products i k are reduced before they are made angles, so that a
large map loses no digits.
"""

import math

import torch
from torch import Tensor

from condense.errors import ConfigError
from condense.layers.stencil import Axis, Grid, X


def eigenbasis(like: Tensor, axis: Axis, grid: Grid) -> tuple[Tensor, Tensor]:
    """B and λ along one axis of a map.

    Args:
        like: A map; its size, precision and device count.
        axis: Along x or y.
        grid: Shift and boundary.

    Shape:
        (N, C, H, W) -> (n, n) and (n,), n the size along the axis.

    Raises:
        ConfigError: As `check_solvable`.
    """
    check_solvable(grid)
    size, shift = like.shape[axis], grid.shift_x if axis == X else grid.shift_y
    places = torch.arange(size, device=like.device)
    if grid.boundary == "periodic":
        return _ring(places, shift, size, like)
    if grid.boundary == "replicate":
        return _walled(places, size, like)
    return _chains(places, shift, size, like)


def check_solvable(grid: Grid) -> None:
    """Refuse a grid whose second differences have no orthogonal basis.

    Raises:
        ConfigError: For replicate with a shift: the pixels at the edge then see the same neighbour,
            which does not see them.
    """
    if grid.boundary == "replicate" and (grid.shift_x, grid.shift_y) != (1, 1):
        raise ConfigError(
            "scheme implicit with boundary replicate needs dx = dy = 1, "
            f"got dx = {grid.shift_x}, dy = {grid.shift_y}",
            hint="boundary periodic and zero take any dx and dy",
        )


def hartley(size: int, like: Tensor) -> Tensor:
    """The basis of a ring: symmetric, and its own inverse.

    Shape:
        (size, size)
    """
    places = torch.arange(size, device=like.device)
    angles = _angles(torch.outer(places, places) % size, size / 2, like)
    return (angles.cos() + angles.sin()) / math.sqrt(size)


def _ring(places: Tensor, shift: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    return hartley(size, like), _doubled(_angles(places * shift % size, size, like))


def _walled(places: Tensor, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    angles = _angles(torch.outer(2 * places + 1, places) % (4 * size), 2 * size, like)
    squares = (2 - (places == 0).to(like)) / size
    return squares.sqrt() * angles.cos(), _doubled(_angles(places, 2 * size, like))


def _chains(places: Tensor, shift: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    rest = places % shift
    ranks = places // shift + 1  # within their chain, from 1
    spans = (size - rest + shift - 1) // shift + 1  # m + 1
    angles = _angles(torch.outer(ranks, ranks) % (2 * spans), spans, like)
    waves = (2 / spans.to(like)).sqrt() * angles.sin()
    return (
        torch.where(rest[:, None] == rest, waves, 0),
        _doubled(_angles(ranks, 2 * spans, like)),
    )


def _angles(numbers: Tensor, half_turn: float | Tensor, like: Tensor) -> Tensor:
    """π numbers / half_turn, in the precision of `like`."""
    return math.pi * numbers.to(like) / half_turn


def _doubled(angles: Tensor) -> Tensor:
    return 4 * angles.sin().square()
