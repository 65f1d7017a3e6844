"""The door to the fused kernels: which kernel a Global layer runs, and the layer run through it.

The readable form reads and writes every map some thirty times; the kernels read it once and write
it once. They compute the same, gradients included, for layers whose coefficients are plain 3x3
stencils per channel with BatchNorm and ReLU. All else, and whatever is being counted, traced or
exported, runs in the readable form.
"""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from condense.errors import CondenseError
from condense.layers.kernel_form import coefficient_maps, has_kernel_form, is_observed
from condense.layers.kernels import ops, training
from condense.layers.schemes import Scheme
from condense.layers.stencil import Grid

Kernel = Literal["readable", "cpu", "gpu"]

log = logging.getLogger(__name__)
_HAS_NUMBA = importlib.util.find_spec("numba") is not None
_readers = 0  # how many `readable()` blocks are open
_was_told = False
_gpu: Any = None  # the module of the GPU's kernels, once it is asked for
CPU_TYPES = (torch.float32, torch.float64)
GPU_TYPES = (torch.float32, torch.bfloat16, torch.float16)


class Layer(Protocol):
    """What the kernels read off a Global layer."""

    channels: int
    steps: int
    dt: float
    scheme: Scheme
    grid: Grid
    has_source: bool
    training: bool
    coefficients: Any
    bn_out: Any
    activation: Any
    _modules: Any

    @property
    def before(self) -> str:
        """What h(-1) is: "f" or "h"."""


@contextmanager
def readable() -> Iterator[None]:
    """Run every Global layer in its readable form within the block, to count or compare."""
    global _readers  # noqa: PLW0603 - a switch for the process, which torch.compile can guard on
    _readers += 1
    try:
        yield
    finally:
        _readers -= 1


def kernel_for(layer: Layer, h: Tensor, f: Tensor | None = None) -> Kernel:
    """The kernel that a layer runs on a state such as h.

    Args:
        layer: As it is now: mode, hooks and replaced parts count.
        h: h(0), (N, C, H, W).
        f: The source, if it is not h.
    """
    if _readers or not _fits(layer, h, f) or not has_kernel_form(layer) or is_observed(layer):
        return "readable"
    if h.is_cuda:
        return "gpu"
    return "cpu" if _has_cpu_kernel() else "readable"


def enable_gpu_kernels() -> None:
    """Run Global layers on a GPU through the Triton kernels from now on.

    They have passed their tests in Triton's interpreter and compile for NVIDIA's sm_90, but were
    never run on a GPU: hence only when asked for.

    Raises:
        CondenseError: If Triton is not installed.
    """
    global _gpu  # noqa: PLW0603 - a switch for the process
    if importlib.util.find_spec("triton") is None:
        raise CondenseError(
            "the GPU kernels need Triton, which is not installed", hint="pip install triton"
        )
    from condense.layers.kernels import gpu, gpu_moments  # noqa: PLC0415

    gpu.register()
    _gpu = gpu_moments


def forward(layer: Layer, h: Tensor, f: Tensor) -> Tensor:
    """relu(BN(h(K))) by the kernel for h; call it only where there is one.

    Shape:
        h and f, both (N, C, H, W) -> (N, C, H, W).
    """
    source = None if f is h else f
    if layer.training and not h.is_cuda:
        return _forward_in_training(layer, h, source)
    if layer.training or torch.is_grad_enabled():
        weight, bias = _folded(layer, h)
        return F.relu(layer.bn_out(ops.evolve(h, source, weight, bias, *_numbers(layer))))
    parameters, maps = _parameters(layer)
    # A graph or a profiler wants an operator; its way through torch costs more than a small map.
    is_seen = torch.compiler.is_compiling() or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    is_direct = not (is_seen or h.is_cuda)
    run = ops.global_layer if is_direct else torch.ops.condense.global_layer
    result: Tensor = run(
        h,
        source,
        parameters,
        list(layer.coefficients.options.constant_diffusion or ()),
        maps[0][0]._parameters["bias"] is not None,
        maps[0][1].eps,
        layer.bn_out.eps,
        *_numbers(layer),
    )
    return result


def _forward_in_training(layer: Layer, h: Tensor, source: Tensor | None) -> Tensor:
    maps, out_norm = coefficient_maps(layer), layer.bn_out
    norms = [norm for _, norm in maps]
    beta = torch.stack([norm.bias for norm in norms], 1)
    if maps[0][0].bias is not None:  # vanishes in the BatchNorm: its gradient is zero, not absent
        beta = beta + 0 * torch.stack([conv.bias for conv, _ in maps], 1)
    out, _, mean, variance, out_mean, out_variance = training.layer_in_training(
        h,
        source,
        torch.stack([conv.weight.flatten(1) for conv, _ in maps], 1),
        torch.stack([norm.weight for norm in norms], 1),
        beta,
        out_norm.weight,
        out_norm.bias,
        list(layer.coefficients.options.constant_diffusion or ()),
        norms[0].eps,
        out_norm.eps,
        *_numbers(layer),
    )
    if maps[0][0].bias is not None:
        mean = mean[:, : len(maps)] + torch.stack([conv.bias for conv, _ in maps], 1)
    count = h.numel() // h.shape[1]
    _move_averages(norms, mean.detach(), variance, count)
    _move_averages([out_norm], out_mean[:, None], out_variance[:, None], count)
    result: Tensor = out
    return result


def _numbers(layer: Layer) -> tuple[int, float, int, int, str, str, bool, bool]:
    grid = layer.grid
    return (
        layer.steps,
        layer.dt,
        grid.shift_x,
        grid.shift_y,
        layer.scheme,
        grid.boundary,
        layer.has_source,
        layer.before == "h",
    )


def _parameters(layer: Layer) -> tuple[list[Tensor], list[tuple[Any, Any]]]:
    """Those of `ops.global_layer`, in its order, and the `coefficient_maps`."""
    parts, maps = [], coefficient_maps(layer)
    for conv, norm in maps:
        own = conv._parameters  # a plain attribute costs ten times as much
        parts.append(own["weight"])
        if own["bias"] is not None:
            parts.append(own["bias"])
        parts += _of_norm(norm)
    return parts + _of_norm(layer._modules["bn_out"]), maps


def _of_norm(norm: Any) -> list[Tensor]:
    weights, averages = norm._parameters, norm._buffers
    return [
        weights["weight"],
        weights["bias"],
        averages["running_mean"],
        averages["running_var"],
    ]


def _folded(layer: Layer, h: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (C, 4, 9) and bias (C, 4) with the BatchNorms folded in, differentiable.

    In training, on a GPU, these take the batch's moments, and their running averages move on.
    """
    maps = coefficient_maps(layer)
    weight = torch.stack([conv.weight.flatten(1) for conv, _ in maps], 1)
    norms = [norm for _, norm in maps]
    if layer.training:
        mean, variance = _gpu.moments(h, _filled(weight))
        mean, variance = mean[:, : len(maps)], variance[:, : len(maps)]
        if maps[0][0].bias is not None:
            mean = mean + torch.stack([conv.bias for conv, _ in maps], 1)
        _move_averages(norms, mean.detach(), variance.detach(), h.numel() // h.shape[1])
    else:
        mean = torch.stack([norm.running_mean for norm in norms], 1)
        variance = torch.stack([norm.running_var for norm in norms], 1)
    slope = torch.stack([norm.weight for norm in norms], 1) / torch.sqrt(variance + norms[0].eps)
    bias = torch.stack([norm.bias for norm in norms], 1) - slope * mean
    if maps[0][0].bias is not None:
        bias = bias + slope * torch.stack([conv.bias for conv, _ in maps], 1)
    weight = _filled(weight * slope[..., None])
    for constant in layer.coefficients.options.constant_diffusion or ():
        bias = torch.cat([bias, bias.new_full((len(bias), 1), constant)], 1)
    return weight, bias


def _filled(weight: Tensor) -> Tensor:
    """With as many maps as there are coefficients: those that are numbers have no stencil."""
    missing = 4 - weight.shape[1]
    return F.pad(weight, (0, 0, 0, missing)) if missing else weight


@torch.no_grad()
def _move_averages(norms: list[Any], mean: Tensor, variance: Tensor, count: int) -> None:
    unbiased = variance * (count / (count - 1))
    for i, norm in enumerate(norms):
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean[:, i].to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(unbiased[:, i].to(norm.running_var.dtype), norm.momentum)


def _fits(layer: Layer, h: Tensor, f: Tensor | None) -> bool:
    return (
        (f is None or f is h or (f.shape, f.dtype, f.device) == (h.shape, h.dtype, h.device))
        and h.ndim == 4
        and h.shape[1] == layer.channels
        and h.numel() > (layer.channels if layer.training else 0)  # torch's BatchNorm says why
        and (_suits_gpu(layer, h) if h.is_cuda else _suits_cpu(layer, h))
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and not torch.compiler.is_exporting()
    )


def _suits_cpu(layer: Layer, h: Tensor) -> bool:
    weight = layer._modules["bn_out"]._parameters["weight"]
    return (
        h.is_cpu
        and weight.is_cpu
        and h.dtype == weight.dtype
        and h.dtype in CPU_TYPES
        and not torch.is_autocast_enabled("cpu")
    )


def _suits_gpu(layer: Layer, h: Tensor) -> bool:
    weight = layer._modules["bn_out"]._parameters["weight"]
    return (
        _gpu is not None
        and h.device == weight.device
        and weight.dtype == torch.float32
        and h.dtype in GPU_TYPES
        and _gpu.gpu.fits(h)
        and not torch.is_autocast_enabled("cuda")
    )


def _has_cpu_kernel() -> bool:
    global _was_told  # noqa: PLW0603
    if not (_HAS_NUMBA or _was_told):
        _was_told = True
        log.warning("numba is not installed: Global layers run in their slow, readable form")
    return _HAS_NUMBA
