"""Latency of whole models: milliseconds per batch, all models interleaved, for each runtime.

`torch` runs the model as it is, fused kernels included; `torch_compile` what torch.compile makes
of it (minutes, so only on request); `onnxruntime` the exported graph on the CPU, with as many
threads as torch uses.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.export import export_onnx, open_session
from condense.measurement.observe import evaluating, random_images
from condense.measurement.timing import Timing, interleave

SETTLE_S = 0.01  # ONNX Runtime's threads spin for milliseconds after a run
Runtime = Literal["torch", "torch_compile", "onnxruntime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What one batch takes.

    Args:
        timing: The samples, in milliseconds.
        batch_size: Images in the batch.
        threads: CPU threads that torch or ONNX Runtime may use.
        device: Where it ran.
        dtype: Of the images.
    """

    timing: Timing
    batch_size: int
    threads: int
    device: str
    dtype: str

    @property
    def median_ms(self) -> float:
        return self.timing.median_ms

    @property
    def iqr_ms(self) -> float:
        return self.timing.iqr_ms

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the samples."""
        return {
            "median_ms": self.median_ms,
            "iqr_ms": self.iqr_ms,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "device": self.device,
            "dtype": self.dtype,
        }


LatencyTable = dict[str, dict[str, list[Latency]]]
"""By model, then by runtime, one for each batch size."""


def measure_latency(  # noqa: PLR0913 - one keyword per condition of a measurement
    models: Mapping[str, nn.Module],
    input_size: Sequence[int],
    *,
    runtimes: Sequence[Runtime] = ("torch",),
    batch_sizes: Sequence[int] = (1,),
    repeats: int = 20,
    warmup: int = 3,
    min_time_s: float = 0.0,
) -> LatencyTable:
    """Time models against each other, each where its parameters are.

    Args:
        models: By name; they take turns within every runtime and batch size.
        input_size: (C, H, W).
        runtimes: Which of them.
        batch_sizes: Images per batch.
        repeats: Rounds.
        warmup: Batches of each before the first round.
        min_time_s: Add rounds until this much time has been measured.

    Raises:
        ConfigError: If there is no such runtime.
    """
    unknown = set(runtimes) - set(get_args(Runtime))
    if unknown:
        raise ConfigError(
            f"no runtime named {', '.join(sorted(unknown))!r}; there are: "
            f"{', '.join(get_args(Runtime))}"
        )
    table: LatencyTable = {name: {runtime: [] for runtime in runtimes} for name in models}
    for runtime in runtimes:
        with _prepared(models, input_size, runtime) as runners:
            for batch_size in batch_sizes:
                batches = _batches(models, input_size, batch_size, runtime)
                timings = interleave(
                    {name: _bound(run, batches[name]) for name, run in runners.items()},
                    repeats=repeats,
                    warmup=warmup,
                    min_time_s=min_time_s,
                    settle_s=SETTLE_S if runtime == "onnxruntime" else 0.0,
                    device=next(iter(batches.values())).device,
                )
                for name, timing in timings.items():
                    record = _record(timing, batches[name], torch.get_num_threads())
                    table[name][runtime].append(record)
    return table


Runner = Callable[[Tensor], object]


@contextmanager
def _prepared(
    models: Mapping[str, nn.Module], input_size: Sequence[int], runtime: Runtime
) -> Iterator[dict[str, Runner]]:
    """Something to call with a batch for every model; what it needs lasts as long as the block."""
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        if runtime == "onnxruntime":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            yield {name: _exported(model, folder, input_size) for name, model in models.items()}
        elif runtime == "torch_compile":
            yield {name: torch.compile(model, dynamic=False) for name, model in models.items()}
        else:
            yield dict(models)


def _exported(model: nn.Module, folder: Path, input_size: Sequence[int]) -> Runner:
    path = folder / "model.onnx"
    export_onnx(model, path, input_size, force=True)
    session = open_session(path)
    return lambda batch: session.run(None, {"images": batch.numpy()})


def _batches(
    models: Mapping[str, nn.Module], input_size: Sequence[int], batch_size: int, runtime: Runtime
) -> dict[str, Tensor]:
    batches = {name: random_images(model, input_size, batch_size) for name, model in models.items()}
    if runtime == "onnxruntime":
        return {name: batch.cpu().float() for name, batch in batches.items()}
    return batches


def _bound(run: Runner, batch: Tensor) -> Callable[[], object]:
    return lambda: run(batch)


def _record(timing: Timing, batch: Tensor, threads: int) -> Latency:
    return Latency(
        timing=timing,
        batch_size=len(batch),
        threads=threads,
        device=str(batch.device),
        dtype=str(batch.dtype).removeprefix("torch."),
    )
