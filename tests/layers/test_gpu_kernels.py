"""The Triton kernels against the readable form: on a GPU, and everywhere in Triton's interpreter.

The interpreter is chosen when Triton is imported, so it lives in a process of its own, which these
tests send their calls to.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condense.layers import GlobalLayer
from condense.layers.schemes import Coefficients, evolve
from condense.layers.stencil import Grid

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed here", allow_module_level=True)

Call = Callable[..., Any]
SCHEMES = ("reference", "conservative")
BOUNDARIES = ("periodic", "zero", "replicate")
DT = 0.2
SERVER = """
import pickle, sys
from condense.layers.kernels import gpu
replies = sys.stdout.buffer
sys.stdout = sys.stderr
while True:
    try:
        name, arguments = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        reply = getattr(gpu, name)(*arguments)
    except ValueError as error:
        reply = error
    pickle.dump(reply, replies)
    replies.flush()
"""


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Call]:
    settings = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=settings
    ) as server:

        def call(name: str, *arguments: Any) -> Any:
            assert server.stdin is not None
            assert server.stdout is not None
            plain = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
            pickle.dump((name, plain), server.stdin)
            server.stdin.flush()
            reply = pickle.load(server.stdout)
            if isinstance(reply, Exception):
                raise reply
            return reply

        yield call


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernel(request: pytest.FixtureRequest) -> Call:
    """Calls a function of `kernels.gpu` by its name, with CPU tensors in and out."""
    if request.param == "interpreter":
        interpreted: Call = request.getfixturevalue("interpreter")
        return interpreted
    from condense.layers.kernels import gpu

    def call(name: str, *arguments: Any) -> Any:
        there = [
            a.detach().cuda()
            if isinstance(a, Tensor)
            else [b.cuda() if isinstance(b, Tensor) else b for b in a]
            if isinstance(a, list)
            else a
            for a in arguments
        ]
        reply = getattr(gpu, name)(*there)
        if isinstance(reply, tuple):
            return tuple(t.cpu() for t in reply)
        return reply.cpu() if isinstance(reply, Tensor) else reply

    return call


def problem(
    shape: tuple[int, ...], *, steps: int, same: bool = True, dtype: torch.dtype = torch.float64
) -> list[Tensor | None]:
    """h, f, weight, bias."""
    generator = torch.Generator().manual_seed(steps + sum(shape))
    channels = shape[1]
    h = torch.randn(shape, generator=generator, dtype=dtype).to(dtype)
    f = None if same else torch.randn(shape, generator=generator, dtype=dtype)
    weight = 0.3 * torch.randn(channels, 4, 9, generator=generator, dtype=dtype)
    return [h, f, weight, torch.randn(channels, 4, generator=generator, dtype=dtype)]


def convolved(h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    channels = h.shape[1]
    stencils = weight.reshape(4 * channels, 1, 3, 3)
    flat = None if bias is None else bias.flatten()
    result = F.conv2d(h, stencils, flat, padding=1, groups=channels)
    return result.reshape(h.shape[0], channels, 4, *h.shape[2:])


def readable(  # as the operator has them
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: Any,
    boundary: Any,
    source: bool,
    at_rest: bool,
) -> Tensor:
    """h(K) as the equation reads."""
    given = h if f is None else f
    grid = Grid(shift_x=dx, shift_y=dy, dx=dx, dy=dy, boundary=boundary)
    return evolve(
        h,
        given if source else None,
        Coefficients(*convolved(h, weight, bias).relu().unbind(2)),
        before=h if at_rest else given,
        dt=dt,
        steps=steps,
        grid=grid,
        scheme=scheme,
    )


def single(values: list[Tensor | None]) -> list[Tensor | None]:
    return [None if t is None else t.float() for t in values]


def close(got: Tensor, expected: Tensor, tolerance: float = 2e-6) -> None:
    """Norm-relative."""
    assert got.shape == expected.shape
    error = (got.double() - expected).norm() / expected.norm().clamp_min(1e-3)
    assert error <= tolerance, f"{error:.2e}"


def gradients(values: list[Tensor | None], grad: Tensor, numbers: tuple[Any, ...]) -> list[Tensor]:
    """Of h, f, weight, bias, by autograd of the readable form in float64."""
    leaves = [None if t is None else t.clone().requires_grad_() for t in values]
    out = readable(*leaves, *numbers)  # type: ignore[arg-type]
    wanted = [t for t in leaves if t is not None]
    found = torch.autograd.grad(out, wanted, grad, allow_unused=True, materialize_grads=True)
    return list(found)


CASES = [
    ((2, 2, 5, 4), 0, 1, 1, True, True, False),
    ((3, 2, 5, 7), 1, 1, 1, True, True, False),
    ((1, 3, 4, 6), 1, 2, 3, False, True, True),
    ((2, 1, 6, 5), 3, 1, 2, False, False, False),
    ((5, 1, 3, 3), 3, 1, 1, True, True, True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_forward_and_gradients(kernel: Call, scheme: str, boundary: str, case: Any) -> None:
    shape, steps, dx, dy, same, source, at_rest = case
    numbers = (steps, DT, dx, dy, scheme, boundary, source, at_rest)
    values = problem(shape, steps=steps, same=same)
    expected = readable(*values, *numbers)  # type: ignore[arg-type]
    close(kernel("evolve", *single(values), *numbers), expected)
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    to_h, to_f, *others = kernel("evolve_backward", grad.float(), *single(values), *numbers)
    found = [to_h, *others] if same else [to_h, to_f, *others]
    for got, exact in zip(found, gradients(values, grad, numbers), strict=True):
        close(got, exact, 5e-6)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("shape", "dx", "dy"), [((1, 1, 1, 1), 1, 1), ((2, 1, 2, 3), 5, 4)])
def test_maps_smaller_than_the_shift(
    kernel: Call, shape: tuple[int, ...], dx: int, dy: int, boundary: str
) -> None:
    numbers = (2, DT, dx, dy, "conservative", boundary, True, False)
    values = problem(shape, steps=2)
    close(kernel("evolve", *single(values), *numbers), readable(*values, *numbers))  # type: ignore[arg-type]
    grad = torch.ones(shape, dtype=torch.float64)
    to_h, _, *others = kernel("evolve_backward", grad.float(), *single(values), *numbers)
    for got, exact in zip([to_h, *others], gradients(values, grad, numbers), strict=True):
        close(got, exact, 5e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.bfloat16, 4e-3), (torch.float16, 5e-4), (torch.float64, 1e-14)],
    ids=str,
)
def test_other_types_round_the_maps_only(
    kernel: Call, dtype: torch.dtype, tolerance: float
) -> None:
    """With the rounded input taken as exact, nothing but the output is rounded."""
    numbers = (3, DT, 1, 1, "reference", "periodic", True, False)
    h, _, weight, bias = problem((2, 2, 5, 4), steps=3)
    assert h is not None
    assert weight is not None
    assert bias is not None
    rounded, wide = h.to(dtype), torch.float64 if dtype == torch.float64 else torch.float32
    got = kernel("evolve", rounded, None, weight.to(wide), bias.to(wide), *numbers)
    assert got.dtype == dtype
    exact = [rounded.double(), None, weight, bias]
    close(got, readable(*exact, *numbers), tolerance)  # type: ignore[arg-type]
    found = kernel(
        "evolve_backward", rounded, rounded, None, weight.to(wide), bias.to(wide), *numbers
    )
    assert (found[0].dtype, found[2].dtype) == (dtype, wide)
    to_h, *others = gradients(exact, rounded.double(), numbers)
    close(found[0], to_h, tolerance)
    for got, expected in zip(found[2:], others, strict=True):
        close(got, expected, 5e-6 if wide == torch.float32 else 1e-14)


def test_channels_last_gives_the_same(kernel: Call) -> None:
    numbers = (1, DT, 1, 1, "reference", "periodic", True, False)
    values = single(problem((2, 3, 5, 4), steps=1))
    h = values[0]
    assert h is not None
    last = [h.to(memory_format=torch.channels_last), *values[1:]]
    got = kernel("evolve", *last, *numbers)
    assert got.is_contiguous()
    assert torch.equal(got, kernel("evolve", *values, *numbers))
    found = kernel("evolve_backward", last[0], *last, *numbers)
    for a, b in zip(found, kernel("evolve_backward", h, *values, *numbers), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (1, 2, 3, 3), (5, 1, 1, 7)], ids=str)
def test_moments_and_their_gradients(kernel: Call, shape: tuple[int, ...]) -> None:
    h, _, weight, _ = problem(shape, steps=0)
    assert h is not None
    assert weight is not None
    h, weight = (h + 3).requires_grad_(), weight.requires_grad_()
    maps = convolved(h, weight)
    mean, variance = maps.mean((0, 3, 4)), maps.var((0, 3, 4), correction=0)
    got = kernel("moments", h.float(), weight.float())
    close(got[0], mean.detach())
    close(got[1], variance.detach())
    to = torch.randn_like(mean), torch.randn_like(variance)
    expected = torch.autograd.grad((mean, variance), (h, weight), to)
    given = (*(t.float() for t in to), mean.float(), h.float(), weight.float())
    for a, b in zip(kernel("moments_backward", *given), expected, strict=True):
        close(a, b, 5e-6)


def test_variance_beside_a_large_mean_keeps_its_digits(kernel: Call) -> None:
    h = 1000 + torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    weight = torch.zeros(1, 4, 9)
    weight[:, :, 4] = 1
    mean, variance = kernel("moments", h, weight)
    close(mean, h.double().mean().expand(1, 4), 1e-7)
    close(variance, h.double().var(correction=0).expand(1, 4), 1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"coefficients": {"bias": True}}, {"coefficients": {"diffusion": [0.5, 2.0]}, "steps": 2}],
    ids=str,
)
def test_whole_layer_in_eval_mode(kernel: Call, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = GlobalLayer(2, **options).double()
    for name, value in layer.state_dict().items():
        if value.is_floating_point():
            torch.nn.init.uniform_(value, *((0.5, 2) if "var" in name else (-0.7, 0.7)))
    layer.eval()
    coefficients = layer.coefficients
    constant = coefficients.options.constant_diffusion or ()
    names = ("u", "v") if constant else ("u", "v", "diff_x", "diff_y")
    parts: list[Tensor] = []
    for name in names:
        conv, norm = getattr(coefficients, f"conv_{name}"), getattr(coefficients, f"bn_{name}")
        parts += [conv.weight, *([] if conv.bias is None else [conv.bias])]
        parts += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    out = layer.bn_out
    parts += [out.weight, out.bias, out.running_mean, out.running_var]
    flat = torch.cat([t.detach().flatten() for t in parts]).float()
    x = torch.randn(2, 2, 5, 4)
    eps = (coefficients.bn_u.eps, out.eps)
    numbers = (layer.steps, layer.dt, 1, 1, layer.scheme, layer.grid.boundary, True, False)
    has_bias = coefficients.options.bias
    got = kernel("global_layer", x, None, [flat], list(constant), has_bias, *eps, *numbers)
    with torch.no_grad():
        close(got, layer(x.double()))


def test_nan_spreads_as_in_the_readable_form(kernel: Call) -> None:
    numbers = (1, DT, 1, 1, "reference", "zero", True, False)
    values = single(problem((1, 1, 7, 7), steps=1))
    assert values[0] is not None
    values[0][0, 0, 3, 3] = torch.nan
    got = kernel("evolve", *values, *numbers)
    assert torch.equal(got.isnan(), readable(*values, *numbers).isnan())  # type: ignore[arg-type]


def test_an_empty_batch_comes_back_empty(kernel: Call) -> None:
    numbers = (1, DT, 1, 1, "reference", "zero", True, False)
    values = single(problem((0, 2, 4, 4), steps=1))
    assert kernel("evolve", *values, *numbers).shape == (0, 2, 4, 4)
    to_h, _, to_weight, _ = kernel("evolve_backward", values[0], *values, *numbers)
    assert to_h.shape == (0, 2, 4, 4)
    assert not to_weight.any()
    assert kernel("moments", values[0], values[2])[0].isnan().all()
    assert not kernel("moments_backward", *[torch.zeros(2, 4)] * 3, values[0], values[2])[1].any()


def test_too_large_a_map_is_refused(kernel: Call) -> None:
    numbers = (1, DT, 1, 1, "reference", "zero", True, False)
    large = torch.zeros(1, 1, 65, 60)
    assert not kernel("fits", large)
    assert kernel("fits", large[:, :, :64])
    with pytest.raises(ValueError, match=r"no GPU kernel for maps of .*65, 60"):
        kernel("evolve", large, None, torch.zeros(1, 4, 9), torch.zeros(1, 4), *numbers)


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import torch
from condense.layers.kernels import gpu, gpu_backward, gpu_forward

name, size, steps, scheme, boundary, dtype = sys.argv[1:]
maps = torch.empty(128, 16, int(size), int(size), device="meta")
problem = gpu._problem(maps, None, int(steps), 0.2, 1, 1, scheme, boundary)
kernel = getattr(gpu_forward, name, None) or getattr(gpu_backward, name)
types = {"p": "constexpr", "share": "fp32"}
types |= {key: f"*{dtype}" for key in ("h_ptr", "f_ptr", "grad_ptr", "out_ptr", "to_h_ptr")}
signature = {
    key: types.get(key, "*fp32" if key.endswith("_ptr") else "i32") for key in kernel.arg_names
}
source = ASTSource(kernel, signature, {(kernel.arg_names.index("p"),): problem})
options = {"num_warps": gpu._warps(problem), "enable_fp_fusion": True}
ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
cells = problem.planes * problem.rows * problem.cols // (32 * options["num_warps"])
print(ptx.count("shfl.sync") / cells)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton brings its assembler on Linux only")
@pytest.mark.parametrize(
    "case",
    [
        ("evolve_kernel", 32, 1, "reference", "periodic", "fp32"),
        ("evolve_kernel", 14, 3, "conservative", "zero", "bf16"),
        ("evolve_backward_kernel", 8, 3, "conservative", "replicate", "fp16"),
        ("evolve_backward_kernel", 16, 1, "reference", "replicate", "fp32"),
        ("moments_kernel", 32, 0, "reference", "zero", "bf16"),
        ("moments_backward_kernel", 8, 0, "reference", "zero", "fp32"),
    ],
    ids=str,
)
def test_kernels_compile_for_a_hopper_gpu(case: tuple[object, ...]) -> None:
    """The interpreter takes Python that the compiler refuses, and sees no slow gather."""
    command = [sys.executable, "-c", COMPILE, *map(str, case)]
    settings = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False)
    assert done.returncode == 0, done.stderr
    # Shuffles for each cell of a thread: thousands when a gather goes wrong.
    assert float(done.stdout) < 150


@pytest.mark.gpu
def test_registered_operators_train_a_layer_on_a_gpu() -> None:
    from condense.layers.kernels import gpu, ops

    gpu.register()
    numbers = (2, DT, 1, 1, "reference", "periodic", True, False)
    values = problem((4, 3, 8, 8), steps=2)
    leaves = [t.float().cuda().requires_grad_() for t in values if t is not None]
    h, weight, bias = leaves
    out = ops.evolve(h, None, weight, bias, *numbers)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = torch.autograd.grad(out, leaves, grad.float().cuda())
    for got, exact in zip(found, gradients(values, grad, numbers), strict=True):
        close(got.cpu(), exact, 5e-6)
