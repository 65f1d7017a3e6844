"""Comparing running times: interleaved rounds, medians, and an interval for their ratio.

One callable after the other would put whatever else the machine does (a cache warming up, a
clock slowing down, a neighbour's job) into the difference. So each round runs every callable once,
every other round in reverse order, and a comparison pairs what ran in the same round.
"""

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from condense.errors import ConfigError

MIN_SAMPLE_S = 0.002


@dataclass(frozen=True, slots=True)
class Timing:
    """What one callable took.

    Args:
        samples: Milliseconds per call, one for each round, in the order of the rounds.
        calls: How many calls each sample averages over.
    """

    samples: tuple[float, ...]
    calls: int = 1

    @property
    def median_ms(self) -> float:
        return float(np.median(self.samples))

    @property
    def iqr_ms(self) -> float:
        """Width of the middle half of the samples."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(high - low)


def interleave(  # noqa: PLR0913 - one keyword per condition of a measurement
    callables: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 20,
    warmup: int = 3,
    min_time_s: float = 0.0,
    min_sample_s: float = MIN_SAMPLE_S,
    settle_s: float = 0.0,
    device: torch.device | str | None = None,
) -> dict[str, Timing]:
    """Time callables against each other in alternating rounds, with the garbage collector off.

    Args:
        callables: What to run, by name.
        repeats: Rounds, at least; each gives one sample per callable.
        warmup: Calls of each before the first sample.
        min_time_s: Add rounds until this much time has been measured in all.
        min_sample_s: A shorter callable is called several times per sample, equally often in
            every round.
        settle_s: Pause before each sample, for thread pools that spin on after their work and
            would take the cores from the next one.
        device: Where the work runs; a CUDA device is waited for around each sample.

    Raises:
        ConfigError: If there is nothing to run or `repeats` < 1.
    """
    if not callables or repeats < 1:
        raise ConfigError(
            f"timing needs something to run and at least 1 round, got {len(callables)} "
            f"and {repeats}"
        )
    wait = _barrier(device)
    calls = {
        name: _calls_per_sample(run, wait, warmup=warmup, min_sample_s=min_sample_s)
        for name, run in callables.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in callables}
    order = list(callables)
    spent = 0.0
    with _collector_off():
        while len(samples[order[0]]) < repeats or spent < min_time_s:
            for name in order:
                time.sleep(settle_s)
                seconds = _seconds(callables[name], calls[name], wait)
                samples[name].append(1000 * seconds / calls[name])
                spent += seconds
            order.reverse()
    return {name: Timing(tuple(samples[name]), calls[name]) for name in callables}


def ratio_interval(
    a: Timing, b: Timing, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """How a's time compares with b's: (low, mid, high) of median(a) / median(b).

    A percentile bootstrap. Samples of the same rounds are drawn together; timings with
    different numbers of rounds are drawn apart. Below 1 throughout means: a is faster.

    Args:
        a: Of what is judged, for example a replacement.
        b: Of what it is held against, for example the original.
        confidence: Of the interval between low and high.
        resamples: Bootstrap draws.
        seed: Of the draws; the same samples always give the same interval.
    """
    first, second = np.asarray(a.samples), np.asarray(b.samples)
    generator = np.random.default_rng(seed)
    draw_a = generator.integers(len(first), size=(resamples, len(first)))
    paired = len(first) == len(second)
    draw_b = draw_a if paired else generator.integers(len(second), size=(resamples, len(second)))
    ratios = np.median(first[draw_a], axis=1) / np.median(second[draw_b], axis=1)
    tail = 50 * (1 - confidence)
    mid = a.median_ms / b.median_ms
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return min(float(low), mid), mid, max(float(high), mid)


def _calls_per_sample(
    run: Callable[[], object], wait: Callable[[], Any], *, warmup: int, min_sample_s: float
) -> int:
    for _ in range(warmup):
        run()
    single = _seconds(run, 1, wait)
    return max(1, math.ceil(min_sample_s / max(single, 1e-7)))


def _seconds(run: Callable[[], object], calls: int, wait: Callable[[], Any]) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    wait()
    return time.perf_counter() - start


def _barrier(device: torch.device | str | None) -> Callable[[], Any]:
    where = torch.device("cpu" if device is None else device)
    if where.type == "cuda":
        return lambda: torch.cuda.synchronize(where)
    return lambda: None


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
