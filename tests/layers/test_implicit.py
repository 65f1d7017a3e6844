"""The implicit scheme against dense matrices, built cell by cell from its definition."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from condense.errors import ConfigError
from condense.layers import Coefficients, GlobalLayer, Grid, evolve, fused
from condense.layers.eigenbases import eigenbasis
from condense.layers.stencil import Axis, X, Y
from condense.measurement import count_macs

EXACT = {"rtol": 0.0, "atol": 1e-10}
GRIDS = [
    Grid(),
    Grid(2, 3, 2.0, 0.7),
    Grid(boundary="zero"),
    Grid(2, 3, 2.0, 0.7, boundary="zero"),
    Grid(boundary="replicate"),
    Grid(1, 1, 2.0, 0.7, boundary="replicate"),
]
seeds = st.integers(0, 2**32 - 1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def neighbour(place: int, size: int, boundary: str) -> int | None:
    if boundary == "periodic":
        return place % size
    if boundary == "replicate":
        return min(max(place, 0), size - 1)
    return place if 0 <= place < size else None


def diffusion_matrix(dif_x: Tensor, dif_y: Tensor, dt: float, grid: Grid) -> Tensor:
    """A of the docstring on one map, entry by entry: (A h)[i, j] = Σ b (h[i, j] − h[neighbour])."""
    height, width = dif_x.shape
    matrix = torch.zeros(height, width, height, width, dtype=torch.float64)
    steps = [(dif_x, grid.dx, s, 0) for s in (grid.shift_x, -grid.shift_x)]
    steps += [(dif_y, grid.dy, 0, s) for s in (grid.shift_y, -grid.shift_y)]
    for (i, j), (dif, spacing, down, right) in product(product(range(height), range(width)), steps):
        k = neighbour(i + down, height, grid.boundary)
        n = neighbour(j + right, width, grid.boundary)
        is_inside = k is not None and n is not None
        b = dt / spacing**2 * (dif[i, j] + (dif[k, n] if is_inside else 0)) / 2
        matrix[i, j, i, j] += b
        if is_inside:
            matrix[i, j, k, n] -= b
    return matrix.reshape(height * width, -1)


def split_matrix(dif_x: Tensor, dif_y: Tensor, dt: float, grid: Grid) -> Tensor:
    """Ā: as for midrange D on a map so large, or continued so, that no b at the edge is halved."""
    middle_x, middle_y = (
        torch.full_like(d, (d.min() + d.max()).item() / 2) for d in (dif_x, dif_y)
    )
    matrix = diffusion_matrix(middle_x, middle_y, dt, grid)
    if grid.boundary == "zero":
        whole = dt / grid.dx**2 * middle_x[0, 0] + dt / grid.dy**2 * middle_y[0, 0]
        matrix.diagonal().fill_(2 * whole)
    return matrix


def diffused(h: Tensor, dif_x: Tensor, dif_y: Tensor, dt: float, grid: Grid) -> Tensor:
    """One step at rest, without advection and source."""
    still = torch.zeros_like(h)
    c = Coefficients(still, still, dif_x.expand_as(h), dif_y.expand_as(h))
    return evolve(h, None, c, before=h, dt=dt, steps=1, grid=grid, scheme="implicit")


@pytest.mark.parametrize("boundary", ["periodic", "replicate"])
def test_with_constant_diffusion_a_step_is_the_inverse_and_couples_the_whole_map(
    boundary: Any,
) -> None:
    """The Jacobian is (I + 2 A)⁻¹, A the dense five-point matrix with dt in it."""
    dif_x, dif_y, dt = 0.7 * torch.ones(8, 8).double(), 0.4 * torch.ones(8, 8).double(), 0.75
    grid = Grid(boundary=boundary)
    a = diffusion_matrix(dif_x, dif_y, dt, grid)
    assert 2 * torch.linalg.eigvalsh(a)[-1] >= 1
    h = noise(1, 1, 8, 8)
    found = jacobian(lambda h: diffused(h, dif_x, dif_y, dt, grid), h)
    expected = torch.linalg.inv(torch.eye(64) + 2 * a)
    torch.testing.assert_close(found.reshape(64, 64), expected, **EXACT)
    assert found.min() > 1e-7


def test_the_whole_map_is_coupled_where_the_largest_rate_is_one() -> None:
    """2 λmax(A) = 1: as little diffusion as the promise is made for."""
    dif = torch.full((8, 8), 1 / 16, dtype=torch.float64)
    assert 2 * torch.linalg.eigvalsh(diffusion_matrix(dif, dif, 1.0, Grid()))[-1] == (
        pytest.approx(1)
    )
    found = jacobian(lambda h: diffused(h, dif, dif, 1.0, Grid()), noise(1, 1, 8, 8))
    assert found.min() > 1e-7


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dt", [0.2, 30.0])
@pytest.mark.parametrize("size", [(8, 8), (5, 6), (1, 4)])
def test_with_varying_diffusion_a_step_is_its_dense_form(
    grid: Grid, dt: float, size: tuple[int, int]
) -> None:
    """The Jacobian is (I + 2 Ā)⁻¹ (I + 2 Ā − 2 A), pixel-varying D with exact zeros."""
    dif_x, dif_y = noise(*size, seed=1).relu(), noise(*size, seed=2).relu()
    a, mean = (make(dif_x, dif_y, dt, grid) for make in (diffusion_matrix, split_matrix))
    one = torch.eye(len(a), dtype=torch.float64)
    expected = torch.linalg.solve(one + 2 * mean, one + 2 * mean - 2 * a)
    found = jacobian(lambda h: diffused(h, dif_x, dif_y, dt, grid), noise(1, 1, *size))
    torch.testing.assert_close(found.reshape(a.shape), expected, **EXACT)


@pytest.mark.parametrize("boundary", ["periodic", "zero", "replicate"])
def test_learnt_diffusion_couples_the_whole_map_in_one_step(boundary: Any) -> None:
    """Through a layer, D frozen and positive: no pixel of 8x8 is without effect on another.

    A pixel in whose whole neighbourhood D is exactly zero rightly keeps what it has.
    """
    torch.manual_seed(0)
    layer = GlobalLayer(3, dt=5.0, scheme="implicit", boundary=boundary, before="h").double()
    x = noise(1, 3, 8, 8)
    c = layer.eval().coefficients(x, x)
    still = torch.zeros_like(x)
    c = Coefficients(still, still, c.diff_x + 0.1, c.diff_y + 0.1)
    matrix: Tensor = jacobian(lambda h: layer.evolve(h, x, c), x)  # type: ignore[assignment]
    for channel in range(3):
        assert matrix[0, channel, :, :, 0, channel].abs().min() > 1e-8


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_three_steps_with_everything_against_dense_matrices(grid: Grid) -> None:
    """Three: a wrong hand-over of the state before first shows in the third step."""
    size, dt = (4, 5), 0.3
    h, before, f, *fields = (noise(1, 1, *size, seed=seed) for seed in range(7))
    c = Coefficients(*(field.relu() for field in fields))
    found = evolve(h, f, c, before=before, dt=dt, steps=3, grid=grid, scheme="implicit")
    a = diffusion_matrix(c.diff_x[0, 0], c.diff_y[0, 0], dt, grid)
    system = torch.eye(20) + 2 * split_matrix(c.diff_x[0, 0], c.diff_y[0, 0], dt, grid)
    for _ in range(3):
        outflow = _outflow(h[0, 0], c.u[0, 0], c.v[0, 0], dt, grid)
        right = 2 * dt * f.flatten() - outflow.flatten() - 2 * a @ before.flatten()
        after = before + torch.linalg.solve(system, right).reshape(h.shape)
        before, h = h, after
    torch.testing.assert_close(found, h, **EXACT)


def _outflow(h: Tensor, u: Tensor, v: Tensor, dt: float, grid: Grid) -> Tensor:
    """dt/dx [ (u h)[i+1] − (u h)[i−1] ] + dt/dy [ (v h)[j+1] − (v h)[j−1] ], cell by cell."""
    out = torch.zeros_like(h)
    for i, j in product(*map(range, h.shape)):
        for sign in (1, -1):
            k = neighbour(i + sign * grid.shift_x, h.shape[0], grid.boundary)
            n = neighbour(j + sign * grid.shift_y, h.shape[1], grid.boundary)
            out[i, j] += 0 if k is None else sign * dt / grid.dx * u[k, j] * h[k, j]
            out[i, j] += 0 if n is None else sign * dt / grid.dy * v[i, n] * h[i, n]
    return out


@given(seed=seeds, steps=st.integers(1, 10), dt=st.sampled_from([0.1, 1.0, 100.0]))
def test_the_mean_is_kept_even_where_diffusion_varies(seed: int, steps: int, dt: float) -> None:
    h, u, v, *dif = (noise(2, 3, 6, 7, seed=seed + i) for i in range(5))
    c = Coefficients(0.1 / dt * u, 0.1 / dt * v, *(d.relu() for d in dif))
    after = evolve(h, None, c, before=h, dt=dt, steps=steps, grid=Grid(), scheme="implicit")
    torch.testing.assert_close(after.mean((2, 3)), h.mean((2, 3)), rtol=0, atol=1e-12)


@given(seed=seeds, dt=st.sampled_from([0.2, 10.0, 1e4]), grid=st.sampled_from(GRIDS))
def test_diffusion_never_grows_however_it_varies_and_however_large_dt(
    seed: int, dt: float, grid: Grid
) -> None:
    """The spectral radius of a step is at most one."""
    dif_x, dif_y = (noise(5, 6, seed=seed + i).relu() ** 3 for i in range(2))
    identity = torch.eye(30, dtype=torch.float64).reshape(30, 1, 5, 6)
    matrix = diffused(identity, dif_x, dif_y, dt, grid).flatten(1)
    assert torch.linalg.eigvals(matrix).abs().max() <= 1 + 1e-9


def test_a_layer_with_a_huge_time_step_forgets_all_but_the_mean() -> None:
    h, dif = noise(2, 3, 6, 6), torch.ones(6, 6, dtype=torch.float64)
    after = diffused(h, dif, dif, 1e6, Grid())
    torch.testing.assert_close(after, h.mean((2, 3), keepdim=True).expand_as(h), rtol=0, atol=1e-6)


@pytest.mark.parametrize("axis", [X, Y])
@pytest.mark.parametrize("grid", [*GRIDS, Grid(4, 9), Grid(4, 9, boundary="zero")], ids=str)
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_the_bases_are_orthogonal_and_diagonalise(axis: Axis, grid: Grid, size: int) -> None:
    field = torch.zeros((1, 1, size, 3) if axis == X else (1, 1, 3, size)).double()
    basis, values = eigenbasis(field, axis, grid)
    one = torch.eye(size, dtype=torch.float64)[None, None]
    one = one if axis == X else one.mT
    second = (2 * one - grid.ahead(one, axis) - grid.behind(one, axis))[0, 0]
    torch.testing.assert_close(basis @ basis.mT, torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(basis @ values.diag() @ basis.mT, second, rtol=0, atol=1e-13)


def test_single_precision_is_kept_on_a_large_map() -> None:
    field = torch.zeros(1, 1, 224, 1)
    for boundary in ("periodic", "zero", "replicate"):
        single, _ = eigenbasis(field, X, Grid(boundary=boundary))
        double, _ = eigenbasis(field.double(), X, Grid(boundary=boundary))
        torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-7)


def test_there_is_no_basis_where_the_edge_is_seen_but_does_not_see() -> None:
    with pytest.raises(ConfigError, match="needs dx = dy = 1, got dx = 1, dy = 2"):
        eigenbasis(torch.zeros(1, 1, 4, 4), X, Grid(shift_y=2, boundary="replicate"))


@pytest.mark.parametrize("boundary", ["periodic", "zero", "replicate"])
def test_gradients_of_a_whole_layer(boundary: Any) -> None:
    torch.manual_seed(0)
    layer = GlobalLayer(
        2, steps=2, dt=0.8, scheme="implicit", boundary=boundary, activation="silu"
    ).double()
    x = noise(2, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_it_runs_in_the_readable_form_and_everything_in_it_is_counted() -> None:
    layer = GlobalLayer(4, scheme="implicit").eval()
    assert fused.kernel_for(layer, torch.ones(1, 4, 8, 8)) == "readable"
    count = count_macs(nn.Sequential(nn.Conv2d(3, 4, 1), layer), (3, 8, 8))
    assert count.by_op["bmm"] + count.by_op.get("mm", 0) == 4 * 8 * 4 * 64  # 2 (H + W) a pixel
    assert set(count.uncounted) <= {"amin", "amax"}
