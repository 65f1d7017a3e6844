"""Stability as a diagnosis: the bound in closed form, and growth as measured."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condense.layers import Coefficients, GlobalLayer, Grid, Scheme, evolve
from condense.layers.stability import is_beyond_bound

positive = st.floats(0.01, 3)


def beyond(
    u: float,
    v: float,
    dif_x: float,
    dif_y: float,
    dt: float = 1.0,
    scheme: Scheme = "conservative",
) -> bool:
    fields = (torch.full((1, 1, 1, 1), value).double() for value in (u, v, dif_x, dif_y))
    return bool(is_beyond_bound(Coefficients(*fields), dt=dt, grid=Grid(), scheme=scheme))


@given(u=positive, v=positive, dif_x=positive, dif_y=positive, dt=positive)
def test_the_bound_is_von_neumanns(
    u: float, v: float, dif_x: float, dif_y: float, dt: float
) -> None:
    value = (dif_x + dif_y) * (u**2 / dif_x + v**2 / dif_y) * dt**2
    if abs(value - 1) > 1e-9:
        assert beyond(u, v, dif_x, dif_y, dt) == (value > 1)


@pytest.mark.parametrize(
    ("coefficients", "expected"),
    [
        ((0, 0, 0, 0), False),
        ((0, 0, 50, 0), False),  # pure diffusion is always stable
        ((0.5, 0.4, 0, 0), False),  # pure advection: |Ax| + |Ay| <= 1
        ((0.7, 0.4, 0, 0), True),
        ((0.01, 0, 0, 1), True),  # no diffusion along x: any velocity along it
        ((0, 0.5, 0, 1), False),
        ((0, 0, -1, 1), True),
        ((0, 0, 1, -1), True),
    ],
)
def test_the_bound_where_something_is_zero(coefficients: tuple[float, ...], expected: bool) -> None:
    assert beyond(*coefficients) is expected


@pytest.mark.parametrize(("u", "is_stable"), [(0.9, True), (1.1, False)])
def test_the_bound_separates_decay_from_growth(u: float, is_stable: bool) -> None:
    """Constant coefficients with v = 0, on both sides of the bound, from noise."""
    torch.manual_seed(0)
    h = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    c = Coefficients(*(torch.full_like(h, value) for value in (u, 0.0, 0.5, 0.0)))
    after = evolve(h, None, c, before=h, dt=1.0, steps=400, grid=Grid(), scheme="conservative")
    assert beyond(u, 0.0, 0.5, 0.0) is not is_stable
    assert bool(after.abs().max() < 100) is is_stable


@pytest.mark.parametrize("dif", [(0.0, 0.0), (0.5, 0.0), (0.02, 40.0)])
@pytest.mark.parametrize(("u", "is_stable"), [(0.6, True), (0.8, False)])
def test_the_implicit_bound_is_that_of_advection(
    u: float, is_stable: bool, dif: tuple[float, float]
) -> None:
    """Whatever the diffusion: enough for stability, and needed where there is none."""
    torch.manual_seed(0)
    h = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    c = Coefficients(*(torch.full_like(h, value) for value in (u, 0.35, *dif)))
    after = evolve(h, None, c, before=h, dt=1.0, steps=400, grid=Grid(), scheme="implicit")
    assert beyond(u, 0.35, *dif, scheme="implicit") is not is_stable
    if is_stable or dif == (0.0, 0.0):
        assert bool(after.abs().max() < 100) is is_stable
    assert beyond(0, 0, -1, 1, scheme="implicit")


def test_a_quarter_of_the_pixels_is_beyond_it_at_initialisation() -> None:
    torch.manual_seed(0)
    layer = GlobalLayer(64)
    found = layer.stability(torch.randn(8, 64, 16, 16))
    assert found.beyond == pytest.approx(0.25, abs=0.06)
    assert found.growth == pytest.approx(1.4, abs=0.15)


def test_growth_is_the_ratio_of_the_rms() -> None:
    torch.manual_seed(0)
    layer = GlobalLayer(3, steps=4).eval()
    x = torch.randn(2, 3, 6, 6)
    states: list[torch.Tensor] = []
    layer.bn_out.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    layer(x)
    expected = (states[0].square().mean() / x.square().mean()).sqrt().item()
    assert layer.stability(x).growth == pytest.approx(expected)


def test_a_small_eps_lets_the_state_grow() -> None:
    """What `coefficient_eps` is for."""
    torch.manual_seed(0)
    x = torch.randn(4, 64, 16, 16)
    growth = {}
    for eps in (None, 1e-5):
        layer = GlobalLayer(64, steps=30, coefficient_eps=eps)
        for _ in range(30):
            layer(x)
        growth[eps] = layer.stability(x).growth
    assert growth[1e-5] > 5 * growth[None]


def test_nothing_to_measure_is_no_growth() -> None:
    found = GlobalLayer(2).stability(torch.zeros(1, 2, 4, 4))
    assert (found.beyond, found.growth) == (0.0, 0.0)
    assert math.isnan(GlobalLayer(2).stability(torch.full((1, 2, 4, 4), torch.nan)).growth)


def test_the_layer_is_as_it_was() -> None:
    layer = GlobalLayer(2)
    layer.coefficients.bn_u.eval()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.stability(torch.randn(2, 2, 4, 4))
    assert layer.training
    assert not layer.coefficients.bn_u.training
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
