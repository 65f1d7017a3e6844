import gc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condense.errors import ConfigError
from condense.measurement import Timing, interleave, ratio_interval

samples = st.lists(st.floats(0.01, 100), min_size=1, max_size=30).map(tuple)


def test_rounds_alternate_and_every_other_one_is_reversed() -> None:
    ran: list[str] = []
    interleave(
        {"a": lambda: ran.append("a"), "b": lambda: ran.append("b")},
        repeats=3,
        warmup=1,
        min_sample_s=0,
    )
    calibration, rounds = ran[:4], ran[4:]
    assert calibration == ["a", "a", "b", "b"]
    assert rounds == ["a", "b", "b", "a", "a", "b"]


def test_every_callable_gives_one_sample_per_round() -> None:
    timings = interleave({"a": int, "b": list}, repeats=4, min_sample_s=0)
    assert {name: len(timing.samples) for name, timing in timings.items()} == {"a": 4, "b": 4}
    assert all(sample > 0 for timing in timings.values() for sample in timing.samples)


def test_short_callables_are_called_many_times_per_sample() -> None:
    timing = interleave({"a": int}, repeats=2, min_sample_s=0.001)["a"]
    assert timing.calls > 10


def test_rounds_are_added_until_enough_was_measured() -> None:
    timing = interleave({"a": int}, repeats=1, min_sample_s=0.001, min_time_s=0.01)["a"]
    assert len(timing.samples) > 1


def test_the_collector_is_off_during_the_rounds_and_on_again_after_an_error() -> None:
    states: list[bool] = []

    def run() -> None:
        states.append(gc.isenabled())
        if len(states) == 4:
            raise RuntimeError("out")

    with pytest.raises(RuntimeError, match="out"):
        interleave({"a": run}, repeats=5, warmup=1, min_sample_s=0)
    assert states == [True, True, False, False]
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        interleave({"a": int}, repeats=1, min_sample_s=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(("callables", "repeats"), [({}, 3), ({"a": int}, 0)])
def test_nothing_to_time_is_an_error(callables: dict, repeats: int) -> None:
    with pytest.raises(ConfigError, match="something to run and at least 1 round"):
        interleave(callables, repeats=repeats)


def test_median_and_middle_half_by_hand() -> None:
    timing = Timing((5.0, 1.0, 2.0, 4.0, 3.0))
    assert (timing.median_ms, timing.iqr_ms) == (3.0, 2.0)


@given(a=samples, b=samples)
def test_the_ratio_lies_in_its_interval(a: tuple, b: tuple) -> None:
    low, mid, high = ratio_interval(Timing(a), Timing(b), resamples=100)
    assert 0 < low <= mid <= high
    assert mid == pytest.approx(np.median(a) / np.median(b))


@given(a=samples)
def test_a_timing_against_itself_is_exactly_one(a: tuple) -> None:
    assert ratio_interval(Timing(a), Timing(a), resamples=100) == (1, 1, 1)


@given(a=samples, b=samples, factor=st.floats(0.1, 10))
def test_the_interval_scales_with_the_time(a: tuple, b: tuple, factor: float) -> None:
    plain = ratio_interval(Timing(a), Timing(b), resamples=100)
    scaled = ratio_interval(Timing(tuple(factor * t for t in a)), Timing(b), resamples=100)
    assert scaled == pytest.approx([factor * end for end in plain])


@given(a=samples, b=samples)
def test_the_same_samples_give_the_same_interval(a: tuple, b: tuple) -> None:
    first, second = (ratio_interval(Timing(a), Timing(b), resamples=100) for _ in range(2))
    assert first == second


@given(a=samples, shift=st.floats(1.5, 4))
def test_what_is_always_slower_in_its_round_is_slower_by_that_factor(
    a: tuple, shift: float
) -> None:
    slower = Timing(tuple(shift * t for t in a))
    assert ratio_interval(slower, Timing(a), resamples=100) == pytest.approx((shift,) * 3)


def test_the_interval_covers_no_difference_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    misses = 0
    for _ in range(200):
        a, b = (Timing(tuple(1 + generator.gamma(1, 0.05, 20))) for _ in range(2))
        low, _, high = ratio_interval(a, b, resamples=300)
        misses += not low <= 1 <= high
    assert misses / 200 < 0.12


def test_a_cuda_device_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    interleave({"a": int}, repeats=2, min_sample_s=0, device="cuda:1")
    assert waited == [torch.device("cuda:1")] * 6
