"""The learning rate as a function of the step: no state to save, nothing to get out of step."""

import math

from condense.training.config import TrainConfig

START, END = (
    1 / 25,
    1 / 250_000,
)  # of the highest rate, in one cycle; torch's OneCycleLR has the same


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Learning rate of step 0 … total - 1.

    One cycle (Smith and Topin, 2019): cosine from lr/25 to lr at step warmup·total - 1, then
    cosine to lr/250,000 at the last step. Cosine: linear up to lr in the same steps, cosine to 0.
    Step: linear up alike, then lr, times `factor` from each milestone on.
    """
    peak = max(config.warmup * total - 1, 0.0)
    if config.schedule != "onecycle" and step < peak:
        return config.lr * (step + 1) / (peak + 1)
    if config.schedule == "step":
        passed = sum(step >= round(share * total) for share in config.milestones)
        return config.lr * config.factor**passed
    if config.schedule == "cosine":
        return _cosine(config.lr, 0.0, (step - peak) / max(total - peak, 1))
    if step <= peak and peak > 0:
        return _cosine(config.lr * START, config.lr, step / peak)
    return _cosine(config.lr, config.lr * END, (step - peak) / max(total - 1 - peak, 1))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
