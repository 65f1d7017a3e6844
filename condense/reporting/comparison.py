"""One model held against another: factors, intervals, and what they amount to in words.

A latency counts as changed only if the 95 % interval of the ratio leaves 1 out and the ratio is
off by 3 % or more (two copies of one network were 2 % apart: where the weights lie in memory
matters), an accuracy only if that of the difference leaves 0 out. The latter is Newcombe's, from
the two Wilson intervals:

    d - √((p₁-l₁)² + (u₂-p₂)²)  to  d + √((u₁-p₁)² + (p₂-l₂)²),    d = p₁ - p₂

It takes the two test runs for independent, which is on the careful side when both saw the same
images.

R. G. Newcombe: Interval Estimation for the Difference Between Independent Proportions, Statistics
in Medicine, 1998, method 10.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from condense.measurement import Latency, ratio_interval
from condense.reporting.figures import count, large, percent, points, times

LEAST_DIFFERENCE = 0.03

Latencies = Mapping[str, list[Latency]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRatio:
    """New over old latency under one set of conditions; below 1 is faster.

    Args:
        runtime: What ran it.
        batch_size: Images per batch.
        threads: CPU threads.
        device: Where.
        low: Lower end of the 95 % interval.
        ratio: Of the medians.
        high: Upper end.
    """

    runtime: str
    batch_size: int
    threads: int
    device: str
    low: float
    ratio: float
    high: float

    @property
    def conditions(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = threads if self.device == "cpu" else self.device
        return f"{self.runtime}, batch {self.batch_size}, {where}"

    @property
    def is_alike(self) -> bool:
        return self.low <= 1 <= self.high or abs(self.ratio - 1) < LEAST_DIFFERENCE

    @property
    def is_faster(self) -> bool:
        return self.ratio < 1 and not self.is_alike

    @property
    def words(self) -> str:
        """`latency fell 1.8x (torch, batch 1, 2 threads; 95 % interval 1.7x to 1.9x)`."""
        if self.is_alike:
            share = f"{self.low:.3f} to {self.high:.3f} of the other's"
            return f"latency not shown to differ ({self.conditions}; 95 % interval {share})"
        verb = "fell" if self.is_faster else "rose"
        ends = (self.low, self.ratio, self.high)
        low, mid, high = sorted(1 / end if self.is_faster else end for end in ends)
        interval = f"95 % interval {times(low)} to {times(high)}"
        return f"latency {verb} {times(mid)} ({self.conditions}; {interval})"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyChange:
    """New minus old top-1, as fractions, with its 95 % interval."""

    low: float
    difference: float
    high: float

    @property
    def is_shown(self) -> bool:
        return self.low > 0 or self.high < 0


def latency_ratios(new: Latencies, old: Latencies) -> list[LatencyRatio]:
    """Ratios for whatever was measured alike for both."""
    ratios = []
    for runtime, records in new.items():
        for mine, other in ((a, b) for a in records for b in old.get(runtime, [])):
            if (mine.batch_size, mine.device) != (other.batch_size, other.device):
                continue
            low, ratio, high = ratio_interval(mine.timing, other.timing)
            ratios.append(
                LatencyRatio(
                    runtime=runtime,
                    batch_size=mine.batch_size,
                    threads=mine.threads,
                    device=mine.device,
                    low=low,
                    ratio=ratio,
                    high=high,
                )
            )
    return ratios


def accuracy_change(
    new: Mapping[str, Any] | None, old: Mapping[str, Any] | None
) -> AccuracyChange | None:
    """How accuracy changed, by the report's records; None unless both are of one split."""
    if new is None or old is None or new["split"] != old["split"]:
        return None
    (low_1, high_1), (low_2, high_2) = new["ci95"], old["ci95"]
    p_1, p_2 = new["top1"], old["top1"]
    return AccuracyChange(
        low=p_1 - p_2 - math.hypot(p_1 - low_1, high_2 - p_2),
        difference=p_1 - p_2,
        high=p_1 - p_2 + math.hypot(high_1 - p_1, p_2 - low_2),
    )


def foremost(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those on the most finished condensed model: against the original, and against its control."""
    on = {role: [v for v in verdicts if v["role"] == role] for role in ("finetuned", "converted")}
    return on["finetuned"] or on["converted"] or verdicts


def compare(
    new: Mapping[str, Any], old: Mapping[str, Any], ratios: list[LatencyRatio]
) -> dict[str, Any]:
    """The verdict on `new` against `old`, as plain values.

    Args:
        new: A model's record in the report.
        old: Another's.
        ratios: Of their latencies.

    Returns:
        `role`, `against`, `latency`, `accuracy`, `sentences` and `text`, the same in one line.
    """
    change = accuracy_change(new.get("accuracy"), old.get("accuracy"))
    sentences = [
        ", ".join(_counts_in_words(new, old)),
        *(ratio.words for ratio in ratios),
        *([_accuracy_in_words(change, new, old)] if change else []),
    ]
    slow = [ratio.conditions for ratio in ratios if not ratio.is_faster]
    if slow and new["macs"] < old["macs"]:
        sentences.append(f"fewer MACs did not make it faster here: {'; '.join(slow)}")
    return {
        "role": new["role"],
        "against": old["role"],
        "latency": [asdict(ratio) for ratio in ratios],
        "accuracy": None if change is None else asdict(change),
        "sentences": sentences,
        "text": f"{new['role']} against {old['role']}: {'; '.join(sentences)}",
    }


def _counts_in_words(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    return [
        _change("params", new["params"], old["params"], count),
        _change("MACs", new["macs"], old["macs"], large),
        _change("elementwise work", new["elementwise_ops"], old["elementwise_ops"], large),
    ]


def _change(name: str, new: int, old: int, written: Any) -> str:
    if new == old:
        return f"{name} unchanged"
    ends = f"({written(old)} to {written(new)})"
    verb = "fell" if new < old else "rose"
    if not new or not old:
        return f"{name} {verb} {ends}"
    return f"{name} {verb} {times(max(new, old) / min(new, old))} {ends}"


def _accuracy_in_words(
    change: AccuracyChange, new: Mapping[str, Any], old: Mapping[str, Any]
) -> str:
    ends = f"{percent(old['accuracy']['top1'])} to {percent(new['accuracy']['top1'])}"
    interval = f"95 % interval {points(change.low)} to {points(change.high)}"
    verdict = "" if change.is_shown else ": no difference shown"
    return f"top-1 {points(change.difference)} points ({ends}; {interval}){verdict}"
