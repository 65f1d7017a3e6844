"""The steps of the low-cost paper against dense matrices built from their definitions."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from condense.errors import ConfigError
from condense.export.products import Filter
from condense.layers import (
    LAYERS,
    Connect,
    MixedConv,
    build_layer,
    reaction_diffusion,
    spectra,
)
from condense.layers.spectra import filtered, largest_squared, spectrum

LOW_COST = ("linear-mix", "mobilenet", "rd-circulant", "rd-explicit", "rd-implicit")
STEPS = ("rd-circulant", "rd-explicit", "rd-implicit")
EXACT = {"rtol": 0.0, "atol": 1e-10}
Size = tuple[int, int, int]
SIZES: list[Size] = [(3, 4, 5), (2, 5, 6), (4, 2, 2), (3, 1, 1), (1, 1, 4)]


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def dense(stencil: Callable[[int, int], Tensor | None], size: Size, *, periodic: bool) -> Tensor:
    """The matrix of a convolution, entry by entry: `stencil(i, j)` leads from channel j to i."""
    channels, height, width = size
    matrix = torch.zeros(channels, height, width, channels, height, width, dtype=torch.float64)
    for i, j in ((i, j) for i in range(channels) for j in range(channels)):
        block = stencil(i, j)
        if block is None:
            continue
        for y, x, a, b in torch.cartesian_prod(*map(torch.arange, (height, width, 3, 3))).tolist():
            row, column = y + a - 1, x + b - 1
            if periodic:
                matrix[i, y, x, j, row % height, column % width] += block[a, b]
            elif 0 <= row < height and 0 <= column < width:
                matrix[i, y, x, j, row, column] += block[a, b]
    return matrix.reshape(math.prod(size), -1)


def depthwise(stencils: Tensor) -> Callable[[int, int], Tensor | None]:
    return lambda i, j: stencils[i] if i == j else None


def circulant(stencils: Tensor) -> Callable[[int, int], Tensor | None]:
    return lambda i, j: stencils[(j - i) % len(stencils)]


def layer(name: str, channels: int, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_layer(name, channels, options).double().eval()


@pytest.mark.parametrize("size", SIZES)
def test_explicit_step_is_its_matrix(size: Size) -> None:
    step, y = layer("rd-explicit", size[0], dt=0.3), random(2, *size)
    k = dense(depthwise(step.diffusion.weight[:, 0]), size, periodic=False)
    expected = y.flatten(1) + 0.3 * (step.reaction(y).flatten(1) - y.flatten(1) @ (k.T @ k).T)
    torch.testing.assert_close(step(y).flatten(1), expected, **EXACT)


@pytest.mark.parametrize("size", SIZES)
def test_implicit_step_is_the_solution_of_its_matrix(size: Size) -> None:
    step, y = layer("rd-implicit", size[0], dt=2.0), random(2, *size)
    k = dense(depthwise(step.diffusion.weight[:, 0]), size, periodic=True)
    system = torch.eye(len(k), dtype=torch.float64) + 2.0 * k.T @ k
    right = (y + 2.0 * step.reaction(y)).flatten(1)
    torch.testing.assert_close(step(y).flatten(1), torch.linalg.solve(system, right.T).T, **EXACT)


@pytest.mark.parametrize("size", SIZES)
def test_circulant_step_is_its_matrix(size: Size) -> None:
    step, y = layer("rd-circulant", size[0], dt=0.3), random(2, *size)
    k = dense(circulant(step.stencils), size, periodic=True)
    product = k.T @ k
    dt = min(0.3, 2 / torch.linalg.eigvalsh(product)[-1].item())
    expected = y.flatten(1) + dt * (step.reaction(y).flatten(1) - y.flatten(1) @ product.T)
    torch.testing.assert_close(step(y).flatten(1), expected, **EXACT)


@pytest.mark.parametrize("size", SIZES)
def test_spectra_are_the_eigenvalues_of_the_matrices(size: Size) -> None:
    stencils, y = random(size[0], 3, 3), random(2, *size, seed=1)
    values = spectrum(stencils, *size[1:])
    k = dense(depthwise(stencils), size, periodic=True)
    found = torch.fft.irfft2(values * torch.fft.rfft2(y), s=size[1:])
    torch.testing.assert_close(found.flatten(1), y.flatten(1) @ k.T, **EXACT)
    for product in (
        filtered(y, values.abs().square()),
        Filter(values.abs().square(), size[2])(y),
    ):
        torch.testing.assert_close(product.flatten(1), y.flatten(1) @ (k.T @ k).T, **EXACT)
    circular = layer("rd-circulant", size[0])
    k = dense(circulant(circular.stencils), size, periodic=True)
    largest = circular.eigenvalues(*size[1:]).amax()
    torch.testing.assert_close(largest, torch.linalg.eigvalsh(k.T @ k)[-1], **EXACT)
    factors, axes = circular.eigenvalues(*size[1:]), (1, 2, 3)
    for product in (filtered(y, factors, axes=axes), Filter(factors, size[2], axes)(y)):
        torch.testing.assert_close(product.flatten(1), y.flatten(1) @ (k.T @ k).T, **EXACT)


def optimised(step: Any) -> None:
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    with torch.enable_grad():
        step(random(2, 3, 4, 5)).square().sum().backward()
    optimizer.step()


def loaded(step: Any) -> None:
    values = step.state_dict()
    step.load_state_dict({name: 0.5 * value for name, value in values.items()})


def assigned(step: Any) -> None:
    for parameter in step.parameters():
        parameter.data.mul_(0.5)  # which no version counter sees


def rounded(step: Any) -> None:
    step.to(torch.bfloat16).to(torch.float64)


@pytest.mark.parametrize("change", [optimised, loaded, assigned, rounded, None])
@pytest.mark.parametrize("learn_dt", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_what_is_remembered_is_forgotten_with_the_weights(
    name: str, learn_dt: bool, change: Callable[[Any], None] | None
) -> None:
    step, y = layer(name, 3, dt=2.0, learn_dt=learn_dt), random(2, 3, 4, 5)
    with torch.no_grad():
        first = step(y)
        torch.testing.assert_close(step(y), first, rtol=0, atol=0)
        for size in ((4, 5), (5, 4), (4, 5)):
            if change is not None:
                change(step)
            y = random(2, 3, *size)
            torch.testing.assert_close(step(y), deepcopy(step)(y), rtol=0, atol=0)
            with torch.enable_grad():
                torch.testing.assert_close(step(y).detach(), step(y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STEPS)
def test_a_spectrum_is_computed_once_for_many_images(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    plain = reaction_diffusion.squared

    def counted(values: Tensor) -> Tensor:
        calls.append(values.shape)
        return plain(values)

    monkeypatch.setattr(reaction_diffusion, "squared", counted)
    monkeypatch.setattr(spectra, "squared", counted)
    step, y = layer(name, 3), random(2, 3, 4, 5)
    with torch.no_grad():
        for _ in range(3):
            step(y)
    assert len(calls) == 1
    step(y)
    assert len(calls) == 2  # with gradients it is part of the graph
    with torch.no_grad(), FlopCounterMode(display=False):
        step(y)
    assert len(calls) == 3  # what is counted computes everything


@pytest.mark.parametrize("size", [(4, 5), (7, 6)])
def test_a_step_beyond_the_bound_runs_at_the_bound_and_says_it(size: tuple[int, int]) -> None:
    y = random(2, 3, *size)
    for name, where in (("rd-explicit", ()), ("rd-circulant", size)):
        step = layer(name, 3, dt=50.0)
        bound = step.largest_dt(*where)
        assert bound < 50
        slower = layer(name, 3, dt=bound)
        slower.load_state_dict(step.state_dict())
        torch.testing.assert_close(step(y), slower(y))
        gentle = layer(name, 3, dt=bound / 2)
        assert gentle.largest_dt(*where) == bound
        assert not torch.allclose(gentle(y), step(y))


@pytest.mark.parametrize("name", STEPS)
def test_an_exported_program_computes_the_same(name: str) -> None:
    step, y = layer(name, 3, dt=0.7), random(2, 3, 5, 6)
    program = torch.export.export(step, (y,))
    torch.testing.assert_close(program.module()(y), step(y), **EXACT)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12))
def test_the_bound_holds_on_every_map_and_is_close(seed: int, size: int) -> None:
    stencils = random(2, 3, 3, seed=seed)
    bound = largest_squared(stencils)
    fine = spectrum(stencils, 200, 200).abs().square().amax()
    assert spectrum(stencils, size, size + 1).abs().square().amax() <= bound
    assert fine <= bound <= 1.05 * fine


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_diffusion_alone_never_grows(name: str, scale: float) -> None:
    """Whatever the weights and dt: the spectral radius without reaction is at most 1."""
    step = layer(name, 3, dt=100.0)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.mul_(scale)
    step.reaction = nn.Module()
    step.reaction.forward = torch.zeros_like
    identity = torch.eye(48, dtype=torch.float64).reshape(48, 3, 4, 4)
    matrix = step(identity).detach().flatten(1).T
    assert torch.linalg.matrix_norm(matrix, 2) <= 1 + 1e-9


def test_one_implicit_step_couples_all_pixels() -> None:
    step = layer("rd-implicit", 1, dt=4.0)
    y = random(1, 1, 8, 8).requires_grad_()
    step(y)[0, 0, 0, 0].backward()
    assert y.grad.abs().min() > 0


@pytest.mark.parametrize("name", LOW_COST)
@pytest.mark.parametrize("shape", [(2, 4, 6, 7), (2, 4, 1, 1), (3, 4, 2, 5)])
def test_a_step_keeps_the_shape_and_trains(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    step = LAYERS[name](4)
    y = torch.randn(shape, requires_grad=True)
    out = step(y)
    assert out.shape == y.shape
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in step.parameters())
    assert y.grad is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [(name, 2 * (9 * 8 + 64) if name == "linear-mix" else 9 * 8 + 64) for name in LOW_COST],
)
def test_parameters_are_those_of_the_paper(name: str, expected: int) -> None:
    assert sum(p.numel() for p in LAYERS[name](8).parameters()) == expected


@pytest.mark.parametrize("name", STEPS)
def test_gradients_of_a_step(name: str) -> None:
    y = random(2, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(layer(name, 2, learn_dt=True), (y,))


@pytest.mark.parametrize("name", STEPS)
def test_the_step_size_can_be_learnt(name: str) -> None:
    step = layer(name, 3, dt=0.25, learn_dt=True)
    assert step.dt().item() == pytest.approx(0.25)
    step(random(2, 3, 5, 5)).square().sum().backward()
    assert step.dt.log.grad.abs() > 0
    assert not list(layer(name, 3).dt.parameters())


@pytest.mark.parametrize("name", STEPS)
def test_an_operator_of_zero_is_no_matter(name: str) -> None:
    step = layer(name, 3, dt=0.25)
    weights = step.stencils if name == "rd-circulant" else step.diffusion.weight
    nn.init.zeros_(weights)
    y = random(2, 3, 5, 5)
    out = step(y)
    torch.testing.assert_close(out, y + 0.25 * step.reaction(y))
    out.sum().backward()
    assert weights.grad.isfinite().all()


def test_linear_mix_is_a_residual_step_with_full_kernels() -> None:
    step, y = layer("linear-mix", 3), random(2, 3, 5, 6)
    kernels = []
    for conv in (step.conv1, step.conv2):
        kernel = torch.diag_embed(conv.depthwise.weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
        kernel = kernel.clone()
        kernel[:, :, 1, 1] += conv.pointwise.weight[:, :, 0, 0]
        kernels.append(kernel)
    inner = F.conv2d(y, kernels[0], padding=1) / math.sqrt(1 + 1e-5)
    expected = y + F.conv2d(inner.relu(), kernels[1], padding=1)
    torch.testing.assert_close(step(y), expected)


def test_mobilenet_step() -> None:
    step, y = layer("mobilenet", 3), random(2, 3, 5, 6)
    scale = math.sqrt(1 + 1e-5)
    z = (F.conv2d(y, step.depthwise.weight, padding=1, groups=3) / scale).relu()
    torch.testing.assert_close(step(y), (F.conv2d(z, step.pointwise.weight) / scale).relu())


@pytest.mark.parametrize("size", [1, 3, 5])
def test_projection_keeps_what_a_mixed_convolution_can_hold(size: int) -> None:
    kernel = random(4, 4, size, size)
    conv = MixedConv(4, size).double()
    conv.project(kernel)
    impulse = torch.eye(4, dtype=torch.float64)[:, :, None, None] * F.pad(
        torch.ones(1, 1, dtype=torch.float64), (4, 4, 4, 4)
    )
    reach = size // 2
    found = conv(impulse)[:, :, 4 - reach : 5 + reach, 4 - reach : 5 + reach].flip(2, 3)
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[reach, reach] = True
    kept = mask | torch.eye(4, dtype=torch.bool)[:, :, None, None]
    torch.testing.assert_close(found.transpose(0, 1), torch.where(kept, kernel, 0.0))


def test_connecting_layer_doubles_the_channels_and_halves_the_map() -> None:
    connect, x = Connect(3).double().eval(), random(2, 3, 6, 8)
    stacked = torch.cat([x, F.conv2d(x, connect.depthwise.weight, padding=1, groups=3)], 1)
    expected = F.avg_pool2d(stacked, 2) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(connect(x), expected)
    assert sum(p.numel() for p in connect.parameters()) == 27
    with pytest.raises(ConfigError, match="a map of 1x8 cannot be halved, expected at least 2x2"):
        connect(x[:, :, :1])


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 0}, "dt must be a finite number > 0, got 0"),
        ({"learn_dt": "yes"}, "learn_dt must be true or false, got 'yes'"),
        ({"ddt": 1}, "has no option 'ddt'"),
    ],
)
def test_what_a_step_refuses(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_layer(name, 3, options)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_no_layer_has_no_channels(name: str) -> None:
    with pytest.raises(ConfigError, match="channels must be a whole number >= 1, got 0"):
        LAYERS[name](0)
