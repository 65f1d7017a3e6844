"""The schemes against the equation, written out cell by cell, and against physics."""

import math
from collections.abc import Callable
from itertools import product
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from condense.layers import Boundary, Coefficients, Grid, Scheme, evolve

SCHEMES = get_args(Scheme)
EXPLICIT: tuple[Scheme, ...] = ("reference", "conservative")
BOUNDARIES = get_args(Boundary)
GRIDS = ((1, 1, 1.0, 1.0), (2, 1, 2.0, 1.0), (1, 3, 1.0, 3.0), (2, 2, 0.5, 0.7))

seeds = st.integers(0, 2**32 - 1)


def random_state(
    seed: int, shape: tuple[int, ...] = (1, 1, 4, 5)
) -> tuple[Tensor, Tensor, Tensor, Coefficients]:
    """h, h(−1), f and coefficients with exact zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    h, before, f, *c = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(7)
    )
    return h, before, f, Coefficients(*(field.relu() for field in c))


class Field:
    """A map as nested lists that knows what lies beyond its edge."""

    def __init__(self, values: Tensor, boundary: str) -> None:
        self.rows = values.tolist()
        self.boundary = boundary

    def __call__(self, i: int, j: int) -> float:
        height, width = len(self.rows), len(self.rows[0])
        if self.boundary == "periodic":
            return self.rows[i % height][j % width]
        if self.boundary == "replicate":
            return self.rows[min(max(i, 0), height - 1)][min(max(j, 0), width - 1)]
        inside = 0 <= i < height and 0 <= j < width
        return self.rows[i][j] if inside else 0.0


def reference_cell(i: int, j: int, fields: dict[str, Field], dt: float, grid: Grid) -> float:
    """h(k+1) in one cell, as SPEC A.2 reads."""
    h, before, f, u, v, dif_x, dif_y = (fields[n] for n in ("h", "before", "f", "u", "v", "p", "q"))
    m, n, dx, dy = grid.shift_x, grid.shift_y, grid.dx, grid.dy
    ax, ay = dt / dx * u(i, j), dt / dy * v(i, j)
    bx, by = dt / dx**2 * dif_x(i, j), dt / dy**2 * dif_y(i, j)
    ux = (u(i - m, j) - u(i + m, j)) / (2 * dx)
    vy = (v(i, j - n) - v(i, j + n)) / (2 * dy)
    e = dt * (ux + vy)
    d = 1 / (1 + 2 * bx + 2 * by)
    along_x = (2 * bx - ax) * h(i - m, j) + (2 * bx + ax) * h(i + m, j)
    along_y = (2 * by - ay) * h(i, j - n) + (2 * by + ay) * h(i, j + n)
    kept = (1 - 2 * bx - 2 * by) * before(i, j) - 2 * e * h(i, j)
    return d * (kept + along_x + along_y) + 2 * dt * d * f(i, j)


def conservative_cell(i: int, j: int, fields: dict[str, Field], dt: float, grid: Grid) -> float:
    """h(k+1) in one cell, as SPEC A.3 reads."""
    h, before, f, u, v, dif_x, dif_y = (fields[n] for n in ("h", "before", "f", "u", "v", "p", "q"))
    m, n, dx, dy = grid.shift_x, grid.shift_y, grid.dx, grid.dy
    b = {
        (+m, 0): dt / dx**2 * (dif_x(i, j) + dif_x(i + m, j)) / 2,
        (-m, 0): dt / dx**2 * (dif_x(i, j) + dif_x(i - m, j)) / 2,
        (0, +n): dt / dy**2 * (dif_y(i, j) + dif_y(i, j + n)) / 2,
        (0, -n): dt / dy**2 * (dif_y(i, j) + dif_y(i, j - n)) / 2,
    }
    s = sum(b.values())
    diffusion = sum(weight * h(i + di, j + dj) for (di, dj), weight in b.items())
    flux_x = u(i + m, j) * h(i + m, j) - u(i - m, j) * h(i - m, j)
    flux_y = v(i, j + n) * h(i, j + n) - v(i, j - n) * h(i, j - n)
    advection = dt / dx * flux_x + dt / dy * flux_y
    return ((1 - s) * before(i, j) + 2 * diffusion - advection + 2 * dt * f(i, j)) / (1 + s)


CELLS = {"reference": reference_cell, "conservative": conservative_cell}


@pytest.mark.parametrize(("scheme", "boundary", "grid"), list(product(EXPLICIT, BOUNDARIES, GRIDS)))
def test_four_steps_cell_by_cell(
    scheme: Scheme, boundary: Boundary, grid: tuple[int, int, float, float]
) -> None:
    """Four: a wrong hand-over of the state before first shows in the third step."""
    spacing = Grid(*grid, boundary=boundary)
    h, before, f, c = random_state(seed=1)
    fast = evolve(h, f, c, before=before, dt=0.2, steps=4, grid=spacing, scheme=scheme)[0, 0]
    slow, previous = h[0, 0], before[0, 0]
    for _ in range(4):
        names = {"h": slow, "before": previous, "f": f[0, 0]}
        names |= {name: field[0, 0] for name, field in zip("uvpq", c, strict=True)}
        fields = {name: Field(values, boundary) for name, values in names.items()}
        after = [
            [CELLS[scheme](i, j, fields, 0.2, spacing) for j in range(slow.shape[1])]
            for i in range(slow.shape[0])
        ]
        previous, slow = slow, torch.tensor(after, dtype=torch.float64)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_steps_leave_the_state_alone(scheme: Scheme) -> None:
    h, before, f, c = random_state(seed=2)
    assert evolve(h, f, c, before=before, dt=0.2, steps=0, grid=Grid(), scheme=scheme) is h


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_a_source_is_with_a_source_of_zero(scheme: Scheme) -> None:
    h, before, _, c = random_state(seed=3)
    without, zero = (
        evolve(h, f, c, before=before, dt=0.2, steps=3, grid=Grid(), scheme=scheme)
        for f in (None, torch.zeros_like(h))
    )
    torch.testing.assert_close(without, zero)


@given(seed=seeds, steps=st.integers(1, 20), dif=st.tuples(st.floats(0, 3), st.floats(0, 3)))
def test_conservative_keeps_the_mean_with_constant_diffusion(
    seed: int, steps: int, dif: tuple[float, float]
) -> None:
    h, _, _, c = random_state(seed, (1, 2, 8, 7))
    c = c._replace(diff_x=torch.full_like(h, dif[0]), diff_y=torch.full_like(h, dif[1]))
    c = c._replace(u=0.3 * c.u, v=0.3 * c.v)
    after = evolve(h, None, c, before=h, dt=0.2, steps=steps, grid=Grid(), scheme="conservative")
    torch.testing.assert_close(after.mean((2, 3)), h.mean((2, 3)), rtol=0, atol=1e-12)


def test_the_mean_drifts_where_diffusion_varies() -> None:
    """Known of DuFort–Frankel, and stated in the docstring: small, and not zero."""
    h, _, _, c = random_state(seed=4, shape=(1, 4, 16, 16))
    h, c = h.abs(), Coefficients(*(0.3 * field for field in c))
    options = {"before": h, "dt": 0.2, "grid": Grid(), "scheme": "conservative"}
    states = [evolve(h, None, c, steps=steps, **options) for steps in range(1, 11)]
    drift = max(abs(state.mean() / h.mean() - 1).item() for state in states)
    assert 1e-5 < drift < 1e-4


@given(seed=seeds, rows=st.integers(-5, 5), columns=st.integers(-5, 5))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_moved_problem_has_the_moved_solution(
    scheme: Scheme, seed: int, rows: int, columns: int
) -> None:
    def moved(field: Tensor) -> Tensor:
        return field.roll((rows, columns), (2, 3))

    h, before, f, c = random_state(seed, (1, 1, 6, 5))
    options = {"dt": 0.1, "steps": 3, "grid": Grid(), "scheme": scheme}
    here = evolve(h, f, c, before=before, **options)
    c = Coefficients(*(moved(field) for field in c))
    there = evolve(moved(h), moved(f), c, before=moved(before), **options)
    torch.testing.assert_close(there, moved(here))


@given(seed=seeds)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_swapping_rows_and_columns_swaps_the_solution(scheme: Scheme, seed: int) -> None:
    h, before, f, c = random_state(seed, (1, 1, 6, 5))
    options = {"dt": 0.1, "steps": 3, "scheme": scheme}
    here = evolve(h, f, c, before=before, grid=Grid(2, 1, 2.0, 1.0), **options)
    h, before, f, u, v, p, q = (field.mT for field in (h, before, f, *c))
    swapped = Coefficients(v, u, q, p)
    there = evolve(h, f, swapped, before=before, grid=Grid(1, 2, 1.0, 2.0), **options)
    torch.testing.assert_close(there.mT, here)


@pytest.mark.parametrize(
    ("scheme", "way"), [("conservative", 1), ("reference", -1), ("implicit", 1)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_gaussian_moves_with_the_wind_or_mirrored(scheme: Scheme, way: int, axis: int) -> None:
    """u = +1 carries it towards larger indices; the reference scheme goes the other way."""
    place = torch.arange(32, dtype=torch.float64) - 16
    h = torch.exp(-(place[:, None] ** 2 + place**2) / 18)[None, None]
    one, zero = torch.ones_like(h), torch.zeros_like(h)
    wind = (one, zero) if axis == 0 else (zero, one)
    c = Coefficients(*wind, zero, zero)
    h = evolve(h, None, c, before=h, dt=0.2, steps=20, grid=Grid(), scheme=scheme)[0, 0]
    profile = h.sum(1 - axis)
    centre = (profile * place).sum() / profile.sum()
    assert centre.item() == pytest.approx(way * 4.0, abs=0.15)


Problem = tuple[Tensor, Tensor | None, Coefficients, Tensor]


def moving_wave(x: Tensor, y: Tensor) -> Problem:
    """Constant coefficients: a wave that moves and decays, after t = 0.5."""
    u, v, dif_x, dif_y = 1.0, -0.5, 0.3, 0.2
    end = torch.exp(-0.5 * (dif_x + dif_y) * torch.ones(()))
    c = Coefficients(*(torch.full_like(x, value) for value in (u, v, dif_x, dif_y)))
    return x.sin() * y.cos(), None, c, end * (x - 0.5 * u).sin() * (y - 0.5 * v).cos()


def steady_state(x: Tensor, y: Tensor) -> Problem:
    """Varying coefficients, and the source for which h = sin x cos y + 2 stays where it is."""
    wave = x.sin() * y.cos()
    h, h_x, h_y = wave + 2, x.cos() * y.cos(), -x.sin() * y.sin()
    u, u_x = 1 + 0.3 * x.cos(), -0.3 * x.sin()
    v, v_y = 0.5 + 0.2 * y.sin(), 0.2 * y.cos()
    dif_x, dif_x_x = 0.5 + 0.2 * x.sin(), 0.2 * x.cos()
    dif_y, dif_y_y = 0.4 + 0.1 * y.cos(), -0.1 * y.sin()
    diffusion = dif_x_x * h_x - dif_x * wave + dif_y_y * h_y - dif_y * wave
    f = u_x * h + u * h_x + v_y * h + v * h_y - diffusion
    return h, f, Coefficients(u, v, dif_x, dif_y), h


def error(problem: Callable[[Tensor, Tensor], Problem], size: int, scheme: Scheme) -> float:
    """Largest error at t = 0.5 on a periodic square, with dt = c dx² and h(−1) = h(0)."""
    spacing = 2 * math.pi / size
    steps = size**2 // 16
    place = spacing * torch.arange(size, dtype=torch.float64)
    x, y = place[:, None].expand(1, 1, size, size), place.expand(1, 1, size, size)
    h, f, c, expected = problem(x, y)
    grid = Grid(dx=spacing, dy=spacing)
    found = evolve(h, f, c, before=h, dt=0.5 / steps, steps=steps, grid=grid, scheme=scheme)
    return (found - expected).abs().max().item()


@pytest.mark.parametrize("problem", [moving_wave, steady_state])
@pytest.mark.parametrize("scheme", ["conservative", "implicit"])
def test_the_papers_equation_is_approached_with_second_order(
    scheme: Scheme, problem: Callable[..., Problem]
) -> None:
    coarse, middle, fine = (error(problem, size, scheme) for size in (16, 32, 64))
    assert math.log2(coarse / middle) >= 1.9
    assert math.log2(middle / fine) >= 1.9


def test_reference_does_not_converge_to_the_equation() -> None:
    """It solves the mirrored one."""
    coarse, fine = (error(moving_wave, size, "reference") for size in (16, 64))
    assert fine > 0.5 * coarse


@pytest.mark.parametrize(("scheme", "boundary"), list(product(SCHEMES, BOUNDARIES)))
def test_gradients_are_those_of_finite_differences(scheme: Scheme, boundary: Boundary) -> None:
    h, before, f, c = random_state(seed=5, shape=(1, 1, 3, 4))
    c = Coefficients(*(0.1 + field + 0.1 * torch.rand_like(field) for field in c))  # no ties
    inputs = [field.requires_grad_() for field in (h, before, f, *c)]
    shift = 1 if (scheme, boundary) == ("implicit", "replicate") else 2

    def advance(h: Tensor, before: Tensor, f: Tensor, *c: Tensor) -> Tensor:
        grid = Grid(shift, 1, 2.0, 1.0, boundary=boundary)
        options = {"dt": 0.2, "steps": 3, "grid": grid, "scheme": scheme}
        return evolve(h, f, Coefficients(*c), before=before, **options)

    assert torch.autograd.gradcheck(advance, inputs)
