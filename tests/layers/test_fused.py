"""The fused kernels against the readable form, which is the oracle; and which of them runs when."""

import logging
import os
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from condense.errors import CondenseError
from condense.layers import GlobalLayer, fused
from condense.layers.kernels import inference

MODES = ("train", "frozen", "no_grad")
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "biased": {"coefficients": {"bias": True}},
    "constant diffusion": {"coefficients": {"diffusion": [0.5, 2.0]}},
    "at rest, no source": {"before": "h", "source": False},
    "residual": {"residual": True},
    "init block": {"init": "basic"},
}


def lively(layer: GlobalLayer) -> GlobalLayer:
    """BatchNorms that do something."""
    for part in layer.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1, 0.3)
            nn.init.normal_(part.bias, 0.3, 0.3)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return layer


def both(layer: GlobalLayer, x: Tensor, mode: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the fused and what the readable form give."""
    layer.train(mode == "train")
    assert fused.kernel_for(layer, layer.init(x)) == "cpu"
    fast = results(layer, x, mode)
    with fused.readable():
        return fast, results(layer, x, mode)


def results(layer: GlobalLayer, x: Tensor, mode: str) -> dict[str, Tensor]:
    """Output, gradients and buffers."""
    twin, image = deepcopy(layer), x.clone().requires_grad_(mode != "no_grad")
    with torch.no_grad() if mode == "no_grad" else nullcontext():
        out = twin(image)
    values = {"out": out.detach(), **{k: v.double() for k, v in twin.named_buffers()}}
    if mode != "no_grad":
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        values["grad of x"] = image.grad
        values |= {
            f"grad of {name}": torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in twin.named_parameters()
        }
    return values


@pytest.mark.parametrize("scheme", ["reference", "conservative"])
@pytest.mark.parametrize("boundary", ["periodic", "zero", "replicate"])
@pytest.mark.parametrize("mode", MODES)
def test_fused_equals_readable(scheme: str, boundary: str, mode: str) -> None:
    torch.manual_seed(0)
    sizes = [(5, 7), (2, 2), (9, 3)]
    for steps, (dx, dy), size in product((0, 1, 3), ((1, 1), (2, 3)), sizes):
        layer = GlobalLayer(3, steps, scheme=scheme, boundary=boundary, dx=dx, dy=dy).double()
        x = torch.randn(2, 3, *size, dtype=torch.float64)
        fast, slow = both(lively(layer), x, mode)
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_fused_equals_readable_with_options(options: dict[str, Any], mode: str) -> None:
    torch.manual_seed(1)
    layer = lively(GlobalLayer(4, 2, **options).double())
    fast, slow = both(layer, torch.randn(2, 4, 6, 5, dtype=torch.float64), mode)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scheme", ["reference", "conservative"])
@pytest.mark.parametrize("mode", MODES)
def test_a_last_buffer_may_hold_fewer_maps(scheme: str, mode: str) -> None:
    torch.manual_seed(2)
    layer = lively(GlobalLayer(2, 2, scheme=scheme, init="basic").double())
    x = torch.randn(6, 2, 40, 25, dtype=torch.float64)  # four maps fit
    fast, slow = both(layer, x, mode)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 5, 7, 7), (1, 24, 3, 3), (17, 1, 1, 5), (5, 8, 8, 8)])
@pytest.mark.parametrize("mode", MODES)
def test_lanes_hold_the_right_channels(shape: tuple[int, ...], mode: str) -> None:
    torch.manual_seed(6)
    layer = lively(GlobalLayer(shape[1], 2, coefficients={"bias": True}).double())
    fast, slow = both(layer, torch.randn(shape, dtype=torch.float64), mode)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_do_not_depend_on_the_threads(threads: int) -> None:
    torch.manual_seed(2)
    layer, x = lively(GlobalLayer(8)), torch.randn(8, 8, 24, 24)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        fast, slow = both(layer, x, "train")
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(fast["out"], slow["out"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("mode", MODES)
def test_float32_error_is_that_of_the_readable_form(steps: int, mode: str) -> None:
    """Norm-relative, against the readable form in float64: at most twice as large, and small."""
    torch.manual_seed(3)
    layer, x = lively(GlobalLayer(16, steps)), torch.randn(4, 16, 16, 16)
    fast, slow = both(layer, x, mode)
    with fused.readable():
        exact = results(deepcopy(layer).double(), x.double(), mode)
    for name, truth in exact.items():
        size = truth.double().norm()
        if size < 1e-6:  # a bias before a BatchNorm has no gradient but rounding
            continue
        errors = [((values[name].double() - truth).norm() / size).item() for values in (fast, slow)]
        assert errors[0] <= max(2 * errors[1], 1e-6), name
        assert errors[0] <= 1e-5, name


def test_a_bias_before_a_batchnorm_has_a_gradient_of_zero() -> None:
    layer = lively(GlobalLayer(2, coefficients={"bias": True})).train()
    layer(torch.randn(2, 2, 5, 5)).sum().backward()
    assert all(
        not parameter.grad.any()
        for name, parameter in layer.named_parameters()
        if "conv" in name and "bias" in name
    )


def test_gradcheck() -> None:
    torch.manual_seed(4)
    layer = lively(GlobalLayer(2, 3, scheme="conservative", boundary="replicate").double())
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert fused.kernel_for(layer, x) == "cpu"
    assert torch.autograd.gradcheck(layer, (x,), atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_comes_out_where_the_readable_form_has_it(value: float) -> None:
    torch.manual_seed(5)
    layer, x = lively(GlobalLayer(2)), torch.randn(1, 2, 9, 9)
    x[0, 1, 4, 4] = value
    fast, slow = both(layer, x, "no_grad")
    assert torch.equal(fast["out"].isfinite(), slow["out"].isfinite())
    assert torch.equal(fast["out"].isnan(), slow["out"].isnan())


@pytest.mark.parametrize("shape", [(0, 4, 6, 6), (2, 4, 1, 1)])
def test_empty_batches_and_single_pixels(shape: tuple[int, ...]) -> None:
    layer, x = lively(GlobalLayer(4)).eval(), torch.randn(shape)
    with torch.no_grad():
        fast = layer(x)
        with fused.readable():
            torch.testing.assert_close(fast, layer(x))


def test_strided_inputs() -> None:
    layer = lively(GlobalLayer(4)).eval()
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        expected = layer(x)
        torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), expected)
        torch.testing.assert_close(layer(x.transpose(2, 3).contiguous().transpose(2, 3)), expected)


@pytest.mark.parametrize("channels", [8, 24, 12])
@pytest.mark.parametrize("init", ["identity", "basic"])
def test_channels_last_stays_so_where_eight_divides_the_channels(channels: int, init: str) -> None:
    torch.manual_seed(7)
    layer = lively(GlobalLayer(channels, 2, init=init)).eval()
    x = torch.randn(3, channels, 7, 5)
    with torch.no_grad():
        expected = layer(x)
        got = layer(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected)
    assert got.is_contiguous(memory_format=torch.channels_last) == (channels % 8 == 0)


def test_the_cpu_kernel_is_there() -> None:
    """Wherever this suite runs numba is installed: a layer that runs slowly here is a fault."""
    assert fused.kernel_for(GlobalLayer(4), torch.zeros(1, 4, 8, 8)) == "cpu"


@pytest.mark.parametrize(
    "layer",
    [
        GlobalLayer(4, activation="silu"),
        GlobalLayer(4, coefficients={"product": True}),
        GlobalLayer(4, coefficients={"velocity": "full"}),
        GlobalLayer(4, coefficients={"velocity_from": "f"}),
    ],
    ids=["silu", "product", "full", "from f"],
)
def test_other_forms_are_readable(layer: GlobalLayer) -> None:
    assert fused.kernel_for(layer, torch.zeros(2, 4, 8, 8)) == "readable"
    assert layer(torch.randn(2, 4, 8, 8)).isfinite().all()


def test_a_layer_with_hooks_runs_its_parts() -> None:
    layer, calls = GlobalLayer(4), []
    layer.coefficients.conv_u.register_forward_hook(lambda *_: calls.append("conv_u"))
    assert fused.kernel_for(layer, torch.zeros(1, 4, 8, 8)) == "readable"
    layer.eval()(torch.zeros(1, 4, 8, 8))
    assert calls == ["conv_u"]


def test_parts_that_differ_among_themselves_are_readable() -> None:
    x = torch.randn(1, 4, 8, 8)
    layers = [GlobalLayer(4).eval() for _ in range(3)]
    layers[0].coefficients.bn_v.eps = 1e-5
    layers[1].coefficients.conv_v = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    layers[2].coefficients.bn_u.train()
    assert {fused.kernel_for(layer, x) for layer in layers} == {"readable"}


def test_a_source_of_another_shape_fails_as_in_the_readable_form() -> None:
    layer = GlobalLayer(4, init="basic", replace_source=False).eval()
    layer.init = nn.AvgPool2d(2)
    with torch.no_grad(), pytest.raises(RuntimeError, match="must match the size"):
        layer(torch.randn(1, 4, 8, 8))


@pytest.mark.parametrize("spoil", ["type", "size"])
def test_parameters_are_looked_at_before_their_memory(spoil: str) -> None:
    layer = GlobalLayer(4).eval()
    weight = layer.coefficients.conv_u.weight
    weight.data = weight.data.double() if spoil == "type" else weight.data[:1]
    with torch.no_grad(), pytest.raises(ValueError, match="a Global layer wants"):
        layer(torch.randn(1, 4, 8, 8))


def test_parameters_may_be_strided() -> None:
    layer, x = lively(GlobalLayer(4)).eval(), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        expected = layer(x)
        weight = layer.coefficients.conv_u.weight
        weight.data = weight.data.transpose(2, 3).contiguous().transpose(2, 3)
        assert not weight.is_contiguous()
        assert torch.equal(layer(x), expected)


def test_weights_changed_in_place_count_at_once() -> None:
    layer, x = lively(GlobalLayer(4)).eval(), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        layer(x)
        layer.coefficients.conv_u.weight.data.mul_(2)
        layer.bn_out.running_var = torch.full((4,), 3.0)
        with fused.readable():
            expected = layer(x)
        torch.testing.assert_close(layer(x), expected)


def test_under_vmap_it_is_readable() -> None:
    layer, x = lively(GlobalLayer(4)).eval(), torch.randn(3, 2, 4, 8, 8)
    with torch.no_grad():
        together = torch.vmap(layer)(x)
        torch.testing.assert_close(together, torch.stack([layer(part) for part in x]))


def test_a_profiler_sees_the_operator() -> None:
    layer = GlobalLayer(4).eval()
    with torch.no_grad(), torch.profiler.profile() as profiler:
        layer(torch.randn(1, 4, 8, 8))
    assert "condense::global_layer" in {event.key for event in profiler.key_averages()}


def test_other_types_are_readable() -> None:
    layer = GlobalLayer(4).to(torch.bfloat16)
    x = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16)
    assert fused.kernel_for(layer, x) == "readable"
    assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(2, 5, 8, 8), (4, 8, 8)])
def test_maps_that_do_not_fit_fail_as_in_the_readable_form(shape: tuple[int, ...]) -> None:
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        GlobalLayer(4)(torch.zeros(shape))


def test_counters_see_the_readable_form() -> None:
    layer, x = GlobalLayer(4).eval(), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        with FlopCounterMode(display=False) as seen:
            layer(x)
        with fused.readable(), FlopCounterMode(display=False) as readable:
            layer(x)
    assert seen.get_total_flops() == readable.get_total_flops() > 0


def test_export_traces_the_readable_form() -> None:
    layer = GlobalLayer(4).eval()
    program = torch.export.export(layer, (torch.randn(2, 4, 8, 8),))
    assert "condense" not in str(program.graph)
    assert "roll" in str(program.graph)


@pytest.mark.slow
def test_the_kernel_lives_in_a_compiled_graph() -> None:
    layer, x = lively(GlobalLayer(4)).eval(), torch.randn(2, 4, 8, 8)
    graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        graphs.append(str(graph.graph))
        return graph.forward

    with torch.no_grad():
        compiled = torch.compile(layer, backend=backend, fullgraph=True)
        torch.testing.assert_close(compiled(x), layer(x))
    assert len(graphs) == 1
    assert "condense.global_layer" in graphs[0]


@pytest.mark.slow
def test_inductor_hands_maps_over_as_its_convolutions_leave_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # no graph of an older operator
    seen = []

    def noting(h: Tensor, *rest: Any) -> Tensor:
        seen.append(h.is_contiguous(memory_format=torch.channels_last))
        return kernel(h, *rest)

    kernel = inference.global_layer
    monkeypatch.setattr(inference, "global_layer", noting)
    convolutions = (nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3))
    network = nn.Sequential(convolutions[0], lively(GlobalLayer(16)), convolutions[1]).eval()
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        out = torch.compile(network, fullgraph=True)(x)
        assert seen == [True]
        torch.testing.assert_close(out, network(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # inside opcheck
@pytest.mark.parametrize("op", ["global_layer", "evolve", "layer_in_training"])
def test_operators_obey_torch(op: str) -> None:
    h = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    weight, bias = torch.randn(3, 4, 9).double(), torch.randn(3, 4).double()
    numbers = (2, 0.2, 1, 1, "reference", "periodic", True, False)
    norm = [torch.rand(3).double() + 0.5 for _ in range(4)]
    parameters = [*(4 * [torch.randn(3, 1, 3, 3).double(), *norm]), *norm]
    affine = (torch.rand(3).double(), torch.rand(3).double())
    arguments: dict[str, tuple[Any, ...]] = {
        "global_layer": (h, None, parameters, [], False, 3.0, 1e-5, *numbers),
        "evolve": (h.requires_grad_(), None, weight.requires_grad_(), bias, *numbers),
        "layer_in_training": (h, None, weight, bias, bias, *affine, [], 1e-5, 1e-5, *numbers),
    }
    checks = ["test_schema", "test_faketensor"]  # global_layer is for inference: no gradient
    if op != "global_layer":
        checks += ["test_autograd_registration", "test_aot_dispatch_dynamic"]
    operator = getattr(torch.ops.condense, op).default
    torch.library.opcheck(operator, arguments[op], test_utils=checks)


def test_without_numba_it_is_readable_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fused, "_HAS_NUMBA", False)
    monkeypatch.setattr(fused, "_was_told", False)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert fused.kernel_for(GlobalLayer(4), torch.zeros(1, 4, 8, 8)) == "readable"
    assert [record.message for record in caplog.records] == [
        "numba is not installed: Global layers run in their slow, readable form"
    ]


def test_gpu_kernels_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_gpu", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CondenseError, match="need Triton"):
        fused.enable_gpu_kernels()


CACHED = """
import sys
import torch
from condense.layers import GlobalLayer
from condense.layers.kernels import batches, inference, rectifying

torch.set_num_threads(2)
layer, x = GlobalLayer(8), torch.randn(8, 8, 64, 64, requires_grad=True)
if "train" in sys.argv:
    layer(x).sum().backward()
with torch.no_grad():
    layer.eval()
    layer(x)
    layer(x[:1, :, :8, :8])
kernels = (
    *(batches.forward_threaded, batches.backward_threaded, batches.convolutions_threaded),
    *(rectifying.rectified_threaded, inference._job, inference._whole),
)
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
print(sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels))
"""


@pytest.mark.slow
def test_the_next_process_compiles_nothing(tmp_path: Path) -> None:
    """Not the twins with threads either; and what it loads runs, whatever ran before."""
    there = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # nobody else writes to it meanwhile
    for work in ("train", "evaluate", "train", "evaluate"):
        command = [sys.executable, "-c", CACHED, work]
        done = subprocess.run(command, capture_output=True, check=True, env=there)
    misses, hits = map(int, done.stdout.split())
    assert (misses, hits) == (0, 3)


def test_code_older_than_a_source_is_forgotten(tmp_path: Path) -> None:
    from condense.layers.kernels import cpu

    old, new, source = (tmp_path / name for name in ("old.nbi", "new.nbi", "kernel.py"))
    for at, path in enumerate((old, source, new)):
        path.touch()
        os.utime(path, (at, at))
    cpu.forget_stale_code(tmp_path, [source])
    assert (old.exists(), new.exists()) == (False, True)
