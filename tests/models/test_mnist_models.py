"""The networks for MNIST: the ODE against its solver, the example against its equations."""

import sys

import pytest
import torch
import torch.nn.functional as F

from condense.errors import CondenseError, ConfigError
from condense.models import create
from condense.models.mnist10 import Backbone
from condense.models.ode import OdeBlock, OdeField, Solver


def ode_block(solver: Solver = "rk4", steps: int = 8) -> OdeBlock:
    return OdeBlock(OdeField(64), solver=solver, steps=steps)


def test_the_papers_solver_is_the_default() -> None:
    assert OdeBlock(OdeField(64)).solver == "dopri5"
    assert create("mnist_ode")[7].solver == create("neural_ode").body.solver == "dopri5"


def test_runge_kutta_agrees_with_the_adaptive_solver() -> None:
    pytest.importorskip("torchdiffeq")
    torch.manual_seed(0)
    fixed = ode_block(steps=32).double().eval()
    adaptive = ode_block("dopri5").double().eval()
    adaptive.load_state_dict(fixed.state_dict())
    x = torch.randn(2, 64, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fixed(x), adaptive(x), atol=2e-2, rtol=0)


def test_runge_kutta_is_of_fourth_order() -> None:
    torch.manual_seed(0)
    blocks = [ode_block(steps=steps).double() for steps in (8, 16, 256)]
    for block in blocks[1:]:
        block.load_state_dict(blocks[0].state_dict())
    for norm in ("norm1", "norm2"):  # far from the kinks of ReLU, where the field is smooth
        for block in blocks:
            getattr(block.field, norm).bias.data.fill_(6.0)
    x = torch.randn(1, 64, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        coarse, fine, exact = (block(x) for block in blocks)
    ratio = (coarse - exact).norm() / (fine - exact).norm()
    assert ratio > 11  # 2⁴ = 16


def test_eight_steps_evaluate_the_equation_32_times() -> None:
    block = ode_block()
    calls: list[int] = []
    block.field.register_forward_hook(lambda *_: calls.append(1))
    block(torch.zeros(1, 64, 2, 2))
    assert len(calls) == 32


def test_the_adaptive_solver_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(CondenseError, match="torchdiffeq is not installed") as caught:
        create("mnist_ode")(torch.zeros(1, 1, 28, 28))
    assert "[baselines]" in str(caught.value.hint)


def test_options_of_the_ode_are_checked() -> None:
    with pytest.raises(ConfigError, match="solver must be dopri5 or rk4, got 'euler'"):
        create("mnist_ode", solver="euler")
    with pytest.raises(ConfigError, match="steps must be a whole number >= 1, got 0"):
        create("mnist_ode", steps=0)


def test_the_example_has_three_kinds() -> None:
    with pytest.raises(ConfigError, match="kind must be one of convolution, residual, global"):
        Backbone("pde")  # type: ignore[arg-type]


def test_the_global_example_is_its_equation() -> None:
    """Three steps as the scheme reads, with u = v = g and D = 1."""
    torch.manual_seed(0)
    block = Backbone("global", steps=3).double().eval()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        f, g = _source_and_velocity(block, x)
        torch.testing.assert_close(block(x), F.relu(block.bn_out(_three_steps(f, g, block.dt))))
        assert not torch.equal(block(x), F.relu(block.bn_out(f)))


def test_the_residual_example_adds_and_the_convolution_does_not() -> None:
    torch.manual_seed(0)
    residual, convolution = (Backbone(kind).double().eval() for kind in ("residual", "convolution"))
    convolution.load_state_dict(residual.state_dict())
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        f, g = _source_and_velocity(residual, x)
        torch.testing.assert_close(convolution(x), g)
        torch.testing.assert_close(residual(x), F.relu(residual.bn_out(f + g)))


def _source_and_velocity(block: Backbone, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    h, f = block.initial_state(x)
    return f, block.coefficients(h, f).u


def _three_steps(f: torch.Tensor, g: torch.Tensor, dt: float) -> torch.Tensor:
    before = h = f
    divergence = sum((g.roll(1, axis) - g.roll(-1, axis)) / 2 for axis in (2, 3))
    for _ in range(3):
        after = (1 - 4 * dt) * before - 2 * dt * divergence * h + 2 * dt * f
        for axis in (2, 3):
            after = after + dt * (2 - g) * h.roll(1, axis) + dt * (2 + g) * h.roll(-1, axis)
        before, h = h, after / (1 + 4 * dt)
    return h
