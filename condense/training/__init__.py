"""Training: distillation, recovery and from scratch, by one loop that survives a kill."""

from condense.training.config import TrainConfig
from condense.training.finetuning import Result, finetune
from condense.training.interrupts import Interrupted
from condense.training.progress import EpochRecord, Progress

__all__ = ["EpochRecord", "Interrupted", "Progress", "Result", "TrainConfig", "finetune"]
