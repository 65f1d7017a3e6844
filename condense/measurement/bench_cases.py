"""Layers against the blocks that they could replace: the cases of a benchmark, and their times.

All cases at one place (a shape, or a stage), batch size and number of threads take turns, so that
their ratios are of one run. ONNX Runtime's threads keep a core busy for a while after each batch;
its cases take turns among themselves.
"""

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from condense.errors import CondenseError, ConfigError
from condense.export import export_onnx, open_session
from condense.layers import LAYERS, build_layer
from condense.layers.fused import readable
from condense.measurement.cache import kernels_of
from condense.measurement.latency import Runtime
from condense.measurement.machine import environment
from condense.measurement.observe import evaluating, random_images
from condense.measurement.timing import Timing, interleave, ratio_interval

REPEATS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How to time.

    Args:
        batch_sizes: Images at a time.
        threads: Numbers of processor threads; empty for torch's own.
        runtimes: What runs the modules; torch.compile takes minutes.
        repeats: Rounds.

    Raises:
        ConfigError: If there is no such runtime, or a number is below 1.
    """

    batch_sizes: Sequence[int] = (1, 64)
    threads: Sequence[int] = ()
    runtimes: Sequence[Runtime] = ("torch", "onnxruntime")
    repeats: int = REPEATS

    def __post_init__(self) -> None:
        known = get_args(Runtime)
        for name in self.runtimes:
            if name not in known:
                raise ConfigError(f"no runtime named {name!r}; there are: {', '.join(known)}")
        if not self.runtimes or not self.batch_sizes:
            raise ConfigError("a benchmark needs at least one runtime and one batch size")
        for number in (*self.batch_sizes, *self.threads, self.repeats):
            if number < 1:
                raise ConfigError(
                    f"batch sizes, threads and rounds must be at least 1, got {number}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one case took at one place.

    Args:
        place: The shape or the stage.
        case: What ran.
        runtime: What ran it.
        kernel: Of the Global layers in it; None if it has none, or the runtime has no kernels.
        batch_size: Images at a time.
        threads: Processor threads.
        timing: The samples.
        ratio: Its time over the baseline's in the same runtime: 95 % interval with the middle,
            (low, mid, high).
        ratio_compiled: The same over the compiled baseline's; None if that did not take turns.
    """

    place: str
    case: str
    runtime: Runtime
    kernel: str | None
    batch_size: int
    threads: int
    timing: Timing
    ratio: tuple[float, float, float]
    ratio_compiled: tuple[float, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with medians for the samples."""
        times = {"median_ms": self.timing.median_ms, "iqr_ms": self.timing.iqr_ms}
        values = {key: value for key, value in asdict(self).items() if key != "timing"}
        compiled = None if self.ratio_compiled is None else list(self.ratio_compiled)
        return values | times | {"ratio": list(self.ratio), "ratio_compiled": compiled}


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A case that a runtime cannot run, and why."""

    place: str
    case: str
    runtime: Runtime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A benchmark of layers, place by place.

    Args:
        kind: `layers` or `stages`.
        subject: What was measured.
        figures: All of them.
        sums: Over the places, for the cases that every place has.
        skipped: What could not be measured.
        notes: What else there is to know.
    """

    kind: str
    subject: str
    figures: tuple[Figure, ...]
    sums: tuple[Figure, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the machine."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "figures": [figure.to_dict() for figure in self.figures],
            "sums": [figure.to_dict() for figure in self.sums],
            "skipped": [asdict(item) for item in self.skipped],
            "notes": list(self.notes),
            "environment": environment(),
        }


class Readable(nn.Module):
    """Runs a module in the readable form of its Global layers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with readable():
            result: Tensor = self.module(x)
        return result


def layer_cases(
    channels: int, *, layers: Sequence[str] | None = None, steps: Sequence[int] = (1, 5)
) -> dict[str, nn.Module]:
    """One of each registered layer; of those that make steps, one for each number of them.

    Args:
        channels: C.
        layers: Names in `condense.layers.LAYERS`; by default all.
        steps: Numbers of steps.
    """
    found: dict[str, nn.Module] = {}
    for name in layers if layers is not None else LAYERS:
        if "steps" not in inspect.signature(LAYERS[name]).parameters:
            found[name] = build_layer(name, channels)
            continue
        for number in steps:
            found[f"{name} K={number}"] = build_layer(name, channels, {"steps": number})
    return found


def time_cases(
    place: str,
    baseline: Mapping[str, nn.Module],
    cases: Mapping[str, nn.Module],
    shape: Sequence[int],
    conditions: Conditions,
) -> tuple[list[Figure], list[Skipped]]:
    """Time cases against a baseline on maps of a shape; Global layers with each kernel.

    Args:
        place: What the figures go by.
        baseline: One module, by its name.
        cases: Modules by name.
        shape: (C, H, W), of the input.
        conditions: How.
    """
    figures: list[Figure] = []
    skipped: list[Skipped] = []
    modules = {**baseline, **cases}
    base = next(iter(baseline))
    for threads in conditions.threads or (torch.get_num_threads(),):
        for runtimes in _together(conditions.runtimes):
            with _threads(threads), _prepared(place, modules, shape, runtimes) as (runners, lost):
                skipped += [item for item in lost if item not in skipped]
                for batch_size in conditions.batch_sizes if runners else ():
                    maps = random_images(modules[base], shape, batch_size)
                    timings = _timed(runners, maps, conditions.repeats)
                    figures += _with_ratios(
                        [
                            Figure(
                                place=place,
                                case=runner.case,
                                runtime=runner.runtime,
                                kernel=runner.kernel,
                                batch_size=batch_size,
                                threads=threads,
                                timing=timing,
                                ratio=(1.0, 1.0, 1.0),
                            )
                            for runner, timing in zip(runners, timings, strict=True)
                        ]
                    )
    return figures, skipped


def summed(figures: Sequence[Figure], place: str) -> list[Figure]:
    """The figures of several places added up, round by round."""
    groups: dict[tuple[Any, ...], list[Figure]] = {}
    for figure in figures:
        key = (figure.case, figure.runtime, figure.kernel, figure.batch_size, figure.threads)
        groups.setdefault(key, []).append(figure)
    places = len({figure.place for figure in figures})
    whole = [group for group in groups.values() if len(group) == places]
    sums = [replace(group[0], place=place, timing=_added(group)) for group in whole]
    return _with_ratios(sums)


def _with_ratios(figures: Sequence[Figure]) -> list[Figure]:
    """With the ratios to the first of each runtime, which is the baseline."""
    bases: dict[tuple[str, int, int], Timing] = {}
    for figure in figures:
        bases.setdefault((figure.runtime, figure.batch_size, figure.threads), figure.timing)
    found = []
    for figure in figures:
        how = (figure.batch_size, figure.threads)
        compiled = bases.get(("torch_compile", *how)) if figure.runtime != "onnxruntime" else None
        found.append(
            replace(
                figure,
                ratio=ratio_interval(figure.timing, bases[figure.runtime, *how]),
                ratio_compiled=ratio_interval(figure.timing, compiled) if compiled else None,
            )
        )
    return found


def _added(figures: Sequence[Figure]) -> Timing:
    rounds = zip(*(figure.timing.samples for figure in figures), strict=True)
    return Timing(tuple(sum(samples) for samples in rounds))


@dataclass(frozen=True, slots=True)
class _Runner:
    case: str
    runtime: Runtime
    kernel: str | None
    run: Callable[[Tensor], object]


def _together(runtimes: Sequence[Runtime]) -> Iterator[tuple[Runtime, ...]]:
    """The runtimes whose cases take turns with each other's."""
    for group in (("torch", "torch_compile"), ("onnxruntime",)):
        if wanted := tuple(
            name for name in get_args(Runtime) if name in group and name in runtimes
        ):
            yield wanted


@contextmanager
def _prepared(
    place: str, modules: Mapping[str, nn.Module], shape: Sequence[int], runtimes: Sequence[Runtime]
) -> Iterator[tuple[list[_Runner], list[Skipped]]]:
    """Something to call for every case and runtime, for as long as the block lasts."""
    runners: list[_Runner] = []
    lost: list[Skipped] = []
    with tempfile.TemporaryDirectory() as folder, evaluating(nn.ModuleList(modules.values())):
        for runtime in runtimes:
            for case, module in modules.items():
                try:
                    runners += _runners(case, module, runtime, Path(folder), shape)
                except CondenseError as error:  # a layer that ONNX has no operators for
                    reason = str(error)
                    lost.append(Skipped(place=place, case=case, runtime=runtime, reason=reason))
                    if module is next(iter(modules.values())):
                        break  # without the baseline there is nothing to hold the others against
        yield runners, lost


def _runners(
    case: str, module: nn.Module, runtime: Runtime, folder: Path, shape: Sequence[int]
) -> Iterator[_Runner]:
    if runtime == "onnxruntime":
        yield _Runner(case, runtime, None, _exported(module, folder, shape))
    else:
        yield from _in_torch(case, module, runtime)


def _in_torch(case: str, module: nn.Module, runtime: Runtime) -> Iterator[_Runner]:
    """The module with each kernel that there is for it."""
    fused = next((kernel for kernel in kernels_of(module) if kernel != "readable"), None)
    with readable():
        has_global = bool(kernels_of(module))
    forms: list[tuple[str | None, nn.Module]] = []
    if has_global:
        forms.append(("readable", Readable(module).eval()))
    if not has_global or fused is not None:
        forms.append((fused, module))
    for kernel, form in forms:
        run = torch.compile(form, dynamic=False) if runtime == "torch_compile" else form
        yield _Runner(case, runtime, kernel, run)


def _exported(module: nn.Module, folder: Path, shape: Sequence[int]) -> Callable[[Tensor], object]:
    path = folder / "case.onnx"
    export_onnx(module, path, shape, force=True)
    session = open_session(path)
    return lambda maps: session.run(None, {"images": maps.cpu().float().numpy()})


def _timed(runners: Sequence[_Runner], maps: Tensor, repeats: int) -> list[Timing]:
    if any(runner.runtime == "torch_compile" for runner in runners):
        torch.compiler.reset()  # else it gives up after a few shapes and runs them uncompiled
    callables = {str(i): _bound(runner.run, maps) for i, runner in enumerate(runners)}
    return list(interleave(callables, repeats=repeats, device=maps.device).values())


def _bound(run: Callable[[Tensor], object], maps: Tensor) -> Callable[[], object]:
    return lambda: run(maps)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
