"""Paper A's baselines: MDEQ's fixed point, NeuPDE's equation, and what they refuse."""

import logging
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from condense.errors import CondenseError, ConfigError, UnknownNameError
from condense.export import export_onnx
from condense.models import create
from condense.models.fixed_point import RESIDUAL, FixedPoint
from condense.models.multiscale import MultiscaleBlock
from condense.models.neupde import NeuPdeField, dictionary
from condense.models.ode import OdeBlock


def flat(z: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten(1) for part in z], dim=1)


def residuals(f: MultiscaleBlock, z: list[Tensor], x: Tensor) -> Tensor:
    """‖f(z) - z‖ / ‖f(z)‖ of each image."""
    after = flat(f(z, x))
    return (after - flat(z)).norm(dim=1) / after.norm(dim=1)


@pytest.mark.parametrize("name", ["mdeq", "mdeq_large"])
def test_mdeq_finds_its_fixed_point(name: str) -> None:
    pytest.importorskip("torchdeq")
    torch.manual_seed(0)
    network = create(name).eval()
    with torch.no_grad():
        x = network.stem(torch.randn(3, 3, 32, 32))
        z = network.equilibrium(x)
        found = residuals(network.equilibrium.f, z, x)
    assert [tuple(part.shape[2:]) for part in z][:3] == [(32, 32), (16, 16), (8, 8)]
    assert found.max() <= RESIDUAL


def test_mdeq_finds_it_after_training_too() -> None:
    pytest.importorskip("torchdeq")
    torch.manual_seed(0)
    network = create("mdeq", widths=(16, 16), final_width=16)
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    network.eval()
    with torch.no_grad():
        x = network.stem(images)
        assert residuals(network.equilibrium.f, network.equilibrium(x), x).max() <= RESIDUAL


def test_the_implicit_gradient_is_the_unrolled_one() -> None:
    """To 1e-9 in float64: for every weight of f and for x."""
    pytest.importorskip("torchdeq")
    torch.manual_seed(0)
    f = MultiscaleBlock((8, 16)).double()
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    weights = [torch.randn_like(part) for part in f.start(x)]

    def gradients(solved: nn.Module) -> tuple[Tensor, ...]:
        loss = sum(
            ((z * w).sum() for z, w in zip(solved(x), weights, strict=True)), torch.zeros(())
        )
        return torch.autograd.grad(loss, [x, *f.parameters()])

    implicit = gradients(FixedPoint(f, tolerance=1e-12, training_evaluations=200))
    unrolled = gradients(FixedPoint(f, solver="picard", evaluations=200))
    for one, other in zip(implicit, unrolled, strict=True):
        assert (one - other).norm() <= 1e-9 * other.norm()


def test_f_computes_its_equations() -> None:
    """Two scales, written out."""
    torch.manual_seed(0)
    f = MultiscaleBlock((8, 16)).double()
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    z = [torch.randn_like(part) for part in f.start(x)]
    inner = []
    for block, part, injected in zip(f.blocks, z, (x, 0), strict=True):
        y = block.conv2(block.norm1(block.conv1(part)).relu()) + injected
        inner.append(block.norm3((block.norm2(y) + part).relu()))
    conv_up, norm_up = f.paths[0][1][:2]
    up = norm_up(conv_up(inner[1])).repeat_interleave(2, 2).repeat_interleave(2, 3)
    down = f.paths[1][0](inner[0])
    assert down.shape == inner[1].shape
    expected = [f.ends[0](inner[0] + up), f.ends[1](down + inner[1])]
    for found, wanted in zip(f(z, x), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_too_few_evaluations_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("torchdeq")
    torch.manual_seed(0)
    network = create("mdeq", widths=(8, 8), evaluations=3).eval()
    with caplog.at_level(logging.WARNING), torch.no_grad():
        network(torch.randn(2, 3, 8, 8))
    assert "away after 3 evaluations, 1e-03 is wanted" in caplog.text


def test_picard_counts_on_its_evaluations() -> None:
    equilibrium = FixedPoint(MultiscaleBlock((8, 8)), solver="picard", evaluations=7)
    calls: list[int] = []
    equilibrium.f.register_forward_hook(lambda *_: calls.append(1))
    equilibrium(torch.randn(1, 8, 4, 4))
    assert len(calls) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "broyden"}, "solver must be anderson or picard, got 'broyden'"),
        ({"evaluations": 2}, "evaluations must be a whole number >= 3, got 2"),
        ({"training_evaluations": 0}, "training_evaluations must be a whole number >= 3, got 0"),
        ({"widths": (16,)}, r"widths must be two or more multiples of 8, got \(16,\)"),
        ({"widths": (16, 20)}, r"widths must be two or more multiples of 8, got \(16, 20\)"),
        ({"head_widths": (16,)}, r"head_widths must have 3 entries, got \(16,\)"),
        ({"halvings": 3}, "halvings must be 0, 1 or 2, got 3"),
    ],
)
def test_options_of_mdeq_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("mdeq", **options)


@pytest.mark.parametrize(("size", "side"), [((30, 32), 30), ((32, 18), 18), ((7, 8), 7)])
def test_a_size_that_cannot_be_halved_says_which_side(size: tuple[int, int], side: int) -> None:
    with pytest.raises(
        ConfigError, match=f"halves its maps 2 times, and of {size[0]}x{size[1]} the side {side}"
    ) as caught:
        create("mdeq")(torch.zeros(1, 3, *size))
    assert caught.value.hint == "both sides must be multiples of 4"


def test_halvings_make_the_stem_coarser() -> None:
    network = create("mdeq", halvings=2, solver="picard", evaluations=3).eval()
    images = torch.zeros(1, 3, 32, 32)
    assert network.stem(images).shape == (1, 16, 8, 8)
    assert network(images).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "library", "solver"),
    [("neural_ode", "torchdiffeq", "rk4"), ("mdeq", "torchdeq", "picard")],
)
def test_a_missing_library_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, library: str, solver: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(CondenseError, match=f"{library} is not installed") as caught:
        create(name)(torch.zeros(2, 3, 32, 32))
    assert caught.value.hint == f"pip install -e '.[baselines]', or use the solver {solver}"
    assert create(name, solver=solver)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("neural_ode", "the solver dopri5 chooses its steps by the data"),
        ("mnist_ode", "the solver dopri5 chooses its steps by the data"),
        ("mdeq", "the solver anderson stops by the data"),
    ],
)
def test_an_adaptive_solver_says_why_it_is_not_exported(
    name: str, reason: str, tmp_path: Path
) -> None:
    network = create(name).eval()
    size = (1, 28, 28) if name == "mnist_ode" else (3, 32, 32)
    with pytest.raises(CondenseError, match=reason) as caught:
        export_onnx(network, tmp_path / "m.onnx", size)
    assert "the weights fit both" in str(caught.value.hint)
    assert not (tmp_path / "m.onnx").exists()


def test_unknown_baselines_name_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no model named 'neuralode'; there are: .*mdeq"
    ) as e:
        create("neuralode")
    assert e.value.hint == "did you mean 'neural_ode'?"


def waves(size: int) -> tuple[Tensor, Tensor]:
    """Coordinates of pixels along x and y."""
    line = torch.arange(size, dtype=torch.float64)
    return line[:, None].expand(size, size), line[None, :].expand(size, size)


def test_the_dictionary_holds_exact_derivatives_of_a_parabola() -> None:
    x, y = waves(6)
    h = 0.5 * x**2 + 3 * x * y - 2 * y**2 + x
    found = dictionary(h[None, None])[0, :, 1:-1, 1:-1]
    one = torch.ones(4, 4, dtype=torch.float64)
    h, x, y = (field[1:-1, 1:-1] for field in (h, x, y))
    along_x, along_y = x + 3 * y + 1, 3 * x - 4 * y
    expected = [h, along_x, along_y, one, 3 * one, -4 * one, h * along_x, h * along_y]
    torch.testing.assert_close(found, torch.stack(expected))


def test_the_dictionary_of_waves_converges_with_second_order() -> None:
    def error(size: int) -> float:
        x, _ = waves(size)
        step = math.pi / size
        slope = dictionary(torch.sin(x * step)[None, None])[0, 1, 1:-1] / step
        return float((slope - torch.cos(x * step)[1:-1]).abs().max())

    assert 3.8 < error(32) / error(64) < 4.2


def test_pixels_of_neupde_know_their_neighbours_alone() -> None:
    """Derivatives reach one pixel; the normalisations, which are over the map, are taken out."""
    field = NeuPdeField(32, 16).double()
    field.norm1 = field.norm2 = field.norm3 = nn.Identity()
    h = torch.randn(1, 32, 7, 7, dtype=torch.float64, requires_grad=True)
    field(0.0, h)[0, :, 3, 3].sum().backward()
    assert h.grad is not None
    reached = h.grad[0].abs().sum(0) > 0
    assert reached.nonzero().sub(3).abs().max() == 1


def test_neupde_forgets_the_time_and_runs_with_either_solver() -> None:
    pytest.importorskip("torchdiffeq")
    torch.manual_seed(0)
    field = NeuPdeField(32, 16).double()
    h = torch.randn(2, 32, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(field(0.0, h), field(0.7, h))
    with torch.no_grad():
        fixed = OdeBlock(field, solver="rk4", steps=40)(h)
        torch.testing.assert_close(OdeBlock(field)(h), fixed, atol=2e-2, rtol=0)
        assert not torch.allclose(fixed, h, atol=0.1)
