import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condense.measurement import Latency, Timing
from condense.measurement.top1 import wilson_interval
from condense.reporting import accuracy_change, compare, latency_ratios

Record = Callable[..., dict]


def latency(*samples: float, batch_size: int = 1, device: str = "cpu", threads: int = 2) -> Latency:
    return Latency(
        timing=Timing(samples),
        batch_size=batch_size,
        threads=threads,
        device=device,
        dtype="float32",
    )


def scores(right: int, total: int, split: str = "test") -> dict:
    low, high = wilson_interval(right, total)
    return {"split": split, "top1": right / total, "n": total, "ci95": [low, high]}


def test_a_clear_gain_is_told_with_its_conditions_and_interval() -> None:
    old = {"torch": [latency(2.0, 4.0, 6.0)]}
    new = {"torch": [latency(1.0, 2.0, 3.0)]}
    (ratio,) = latency_ratios(new, old)
    assert ratio.is_faster
    assert ratio.words == ("latency fell 2x (torch, batch 1, 2 threads; 95 % interval 2x to 2x)")


def test_a_loss_is_told_as_a_rise() -> None:
    (ratio,) = latency_ratios(
        {"torch": [latency(3.0, 3.0, threads=1)]}, {"torch": [latency(2.0, 2.0)]}
    )
    assert not ratio.is_faster
    assert ratio.words == (
        "latency rose 1.5x (torch, batch 1, 1 thread; 95 % interval 1.5x to 1.5x)"
    )


def test_an_interval_around_one_claims_nothing() -> None:
    old, new = latency(1.0, 2.0, 3.0, 2.0), latency(2.0, 1.0, 2.0, 3.0)
    (ratio,) = latency_ratios({"torch": [new]}, {"torch": [old]})
    assert ratio.low <= 1 <= ratio.high
    assert ratio.words.startswith("latency not shown to differ (torch, batch 1, 2 threads; 95 %")


def test_two_percent_is_no_difference_however_sure() -> None:
    (ratio,) = latency_ratios({"torch": [latency(0.98, 0.98)]}, {"torch": [latency(1.0, 1.0)]})
    assert ratio.is_alike
    assert not ratio.is_faster


def test_only_what_was_measured_alike_is_compared() -> None:
    old = {"torch": [latency(1.0), latency(9.0, batch_size=64)]}
    new = {
        "torch": [latency(1.0, device="cuda:0"), latency(3.0, batch_size=64)],
        "onnxruntime": [latency(1.0)],
    }
    (ratio,) = latency_ratios(new, old)
    assert (ratio.runtime, ratio.batch_size) == ("torch", 64)
    assert ratio.ratio == pytest.approx(1 / 3)


def test_on_a_gpu_the_device_is_named() -> None:
    gpu = {"torch": [latency(1.0, device="cuda:0")]}
    assert latency_ratios(gpu, gpu)[0].conditions == "torch, batch 1, cuda:0"


def test_newcombes_example() -> None:
    """Newcombe 1998, table II, (a): 56/70 - 48/80 = 0.2, method 10: 0.0524 to 0.3339."""
    change = accuracy_change(scores(56, 70), scores(48, 80))
    assert change is not None
    assert change.is_shown
    assert (change.low, change.difference, change.high) == pytest.approx(
        (0.0524, 0.2, 0.3339), abs=1e-4
    )


@given(first=st.integers(0, 50), second=st.integers(0, 50))
def test_swapping_the_models_mirrors_the_change(first: int, second: int) -> None:
    change = accuracy_change(scores(first, 50), scores(second, 50))
    swapped = accuracy_change(scores(second, 50), scores(first, 50))
    assert change is not None
    assert swapped is not None
    assert (change.low, change.high) == pytest.approx((-swapped.high, -swapped.low))
    assert change.low <= change.difference <= change.high


def test_accuracies_of_different_splits_do_not_compare() -> None:
    assert accuracy_change(scores(1, 2), scores(1, 2, "validation")) is None
    assert accuracy_change(None, scores(1, 2)) is None
    assert accuracy_change(scores(1, 2), None) is None


def test_macs_that_fell_without_the_time_are_called_that(record: Record) -> None:
    old, new = record("original"), record("converted", macs=13_000_000, params=80_442)
    ratios = latency_ratios(
        {"torch": [latency(3.0, 3.0)], "onnxruntime": [latency(1.0, 1.0)]},
        {"torch": [latency(2.0, 2.0)], "onnxruntime": [latency(2.0, 2.0)]},
    )
    verdict = compare(new, old, ratios)
    assert verdict["sentences"] == [
        "params fell 5.77x (464,154 to 80,442), MACs fell 5.3x (68.9 M to 13.0 M), "
        "elementwise work unchanged",
        "latency rose 1.5x (torch, batch 1, 2 threads; 95 % interval 1.5x to 1.5x)",
        "latency fell 2x (onnxruntime, batch 1, 2 threads; 95 % interval 2x to 2x)",
        "fewer MACs did not make it faster here: torch, batch 1, 2 threads",
    ]
    assert verdict["text"] == f"converted against original: {'; '.join(verdict['sentences'])}"
    assert [entry["ratio"] for entry in verdict["latency"]] == [1.5, 0.5]
    assert verdict["accuracy"] is None


def test_accuracy_within_noise_is_called_that(record: Record) -> None:
    old = record("control_finetuned", accuracy=scores(900, 1000), elementwise_ops=0)
    new = record("finetuned", accuracy=scores(901, 1000))
    verdict = compare(new, old, [])
    assert verdict["sentences"] == [
        "params unchanged, MACs unchanged, elementwise work rose (0 to 1.05 M)",
        "top-1 +0.1 points (90.0 % to 90.1 %; 95 % interval -2.5 to +2.7): no difference shown",
    ]
    assert math.isclose(verdict["accuracy"]["difference"], 0.001, abs_tol=1e-12)


def test_a_shown_drop_is_told_plainly(record: Record) -> None:
    old = record("original", accuracy=scores(928, 1000))
    new = record("finetuned", accuracy=scores(801, 1000))
    assert compare(new, old, [])["sentences"][-1] == (
        "top-1 -12.7 points (92.8 % to 80.1 %; 95 % interval -15.7 to -9.8)"
    )
