"""The options of a training run."""

from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

from condense.errors import ConfigError

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["onecycle", "cosine", "step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train: saved with the state, and compared when a run is resumed.

    Args:
        epochs: Passes over the training images.
        batch_size: Images a step, over all processes together.
        optimizer: `sgd`, or `adam` with torch's betas and decoupled weight decay.
        lr: Highest learning rate.
        momentum: Of SGD, Nesterov's form.
        weight_decay: On weights; biases and normalisation layers go without.
        schedule: `onecycle` (cosine up from lr/25, cosine down to lr/250,000) or `cosine`
            (linear up from nothing, cosine down to nothing) or `step` (linear up, then times
            `factor` at each milestone).
        milestones: Where the rate steps down, as shares of the training: another number of epochs
            moves them in proportion.
        factor: Of the rate at each of them.
        warmup: Share of the steps in which the learning rate rises.
        clip: Largest norm of the gradient; None for any.
        temperature: T of the distillation.
        teacher_weight: Share of the distillation in the loss; labels have the rest.
        label_smoothing: Share of the label's weight that is spread over all classes.
        augment: Crop and flip at random.
        cutout: Side in pixels of a square that is blotted out of each image; 0 for none.
        auxiliary_weight: Of the loss of a second head, for networks that have one in training.
        drop_path: Share of the paths through cells that are dropped, rising from 0 to this.
        amp: Mixed precision: bfloat16, or float16 with loss scaling where a GPU lacks it.
        ema: Validate and keep a moving average of the weights.
        ema_decay: Of that average, per step.
        compile: Run the model through `torch.compile`.
        workers: Threads that prepare batches ahead.
        limit: Train on this many images only.
        max_drop: Stop as soon as the held-out accuracy is within this many percentage points
            of the reference (see `finetune`); None to train to the end.
        save_every_s: Seconds between two savings within an epoch.
        seed: Of order, augmentation and dropout.

    Raises:
        ConfigError: If a value is out of range.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "onecycle"
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    warmup: float = 0.2
    clip: float | None = None
    temperature: float = 4.0
    teacher_weight: float = 0.9
    label_smoothing: float = 0.0
    augment: bool = True
    cutout: int = 0
    auxiliary_weight: float = 0.0
    drop_path: float = 0.0
    amp: bool = False
    ema: bool = False
    ema_decay: float = 0.999
    compile: bool = False
    workers: int = 0
    limit: int | None = None
    max_drop: float | None = None
    save_every_s: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._check(name, "at least 1", getattr(self, name) >= 1)
        for name in ("lr", "temperature"):
            self._check(name, "above 0", 0 < getattr(self, name) < float("inf"))
        for name in ("weight_decay", "workers", "save_every_s", "seed", "cutout"):
            self._check(name, "at least 0", getattr(self, name) >= 0)
        self._check("auxiliary_weight", "at least 0", self.auxiliary_weight >= 0)
        for name in ("momentum", "warmup", "label_smoothing", "ema_decay", "drop_path"):
            self._check(name, "in [0, 1)", 0 <= getattr(self, name) < 1)
        self._check("teacher_weight", "in [0, 1]", 0 <= self.teacher_weight <= 1)
        self._check("clip", "above 0", self.clip is None or self.clip > 0)
        self._check("limit", "at least 1", self.limit is None or self.limit >= 1)
        self._check("max_drop", "at least 0", self.max_drop is None or self.max_drop >= 0)
        self._check("factor", "in (0, 1]", 0 < self.factor <= 1)
        shares = self.milestones
        is_rising = list(shares) == sorted(set(shares)) and all(0 < share < 1 for share in shares)
        self._check("milestones", "rising shares of the training in (0, 1)", is_rising)
        is_needed = self.schedule == "step"
        expected = "one or more for the schedule 'step', none for others"
        self._check("milestones", expected, bool(shares) is is_needed)
        for name, kind in (("schedule", Schedule), ("optimizer", Optimizer)):
            known = get_args(kind)
            self._check(name, f"one of {', '.join(known)}", getattr(self, name) in known)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The opposite of `to_dict`; what is left out has its default.

        Raises:
            ConfigError: If a name is unknown or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                raise ConfigError(
                    f"there is no training option {name!r}; there are: {', '.join(known)}",
                    hint=f"did you mean {near[0]!r}?" if near else None,
                )
        milestones = {k: tuple(values[k]) for k in ("milestones",) if k in values}  # JSON's list
        return cls(**values | milestones)

    def to_dict(self) -> dict[str, Any]:
        """All options as plain values."""
        return asdict(self)

    def _check(self, name: str, expected: str, is_right: bool) -> None:  # noqa: FBT001
        if not is_right:
            raise ConfigError(f"{name} must be {expected}, got {getattr(self, name)!r}")
