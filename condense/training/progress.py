"""What a caller can watch while a training runs."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One line of `metrics.jsonl`.

    Args:
        epoch: From 1.
        train_loss: Mean over the steps.
        val_top1: Held-out accuracy after it, as a fraction.
        lr: Of its last step.
        seconds: That its steps took, over all attempts.
        images_per_s: Training images a second.
    """

    epoch: int
    train_loss: float
    val_top1: float
    lr: float
    seconds: float
    images_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Progress(Protocol):
    """Told how far a training is. Called in one process only."""

    def start(self, total: int, done: int) -> None:
        """A training of `total` images begins, or continues after `done` of them."""

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        """So many more images were learnt from."""

    def epoch_done(self, record: EpochRecord) -> None:
        """An epoch was validated."""

    def stop(self) -> None:
        """The training ended, well or not."""


class Silence:
    """Shows nothing."""

    def start(self, total: int, done: int) -> None:
        """See `Progress`."""

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        """See `Progress`."""

    def epoch_done(self, record: EpochRecord) -> None:
        """See `Progress`."""

    def stop(self) -> None:
        """See `Progress`."""
