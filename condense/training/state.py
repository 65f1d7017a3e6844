"""What a training has to remember to go on: `last.pt`, `best.pt` and `metrics.jsonl`.

Each file is written whole or not at all, and holds plain types and tensors only.
"""

import hashlib
import io
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense.checkpoint.plain import read_plain
from condense.errors import CondenseError
from condense.run import written_whole

FORMAT, SCHEMA = "condense-training", 1
LAST, BEST, METRICS = "last.pt", "best.pt", "metrics.jsonl"
MAY_DIFFER = {"workers", "save_every_s"}  # options that leave the result as it is

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Position:
    """How far a training is.

    Args:
        epoch: Epochs that are complete.
        batch: Steps of the next one that are done.
        loss_sum: Over these steps.
        seconds: That they took.
        reference: The teacher's held-out accuracy, once it is measured.
        is_finished: Whether there is nothing left to do.
        history: One record an epoch, as plain values.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    reference: float | None = None
    is_finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """The best epoch so far.

    Args:
        epoch: From 1.
        val_top1: Its held-out accuracy.
        weights: A state_dict on the CPU.
    """

    epoch: int
    val_top1: float
    weights: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Store:
    """The folder where a training keeps its state.

    Args:
        folder: None keeps nothing.
        identity: What the training is made of: plain values by name.
        is_writer: Whether this process writes.
    """

    folder: Path | None
    identity: dict[str, Any]
    is_writer: bool = True

    def check_free(self) -> None:
        """Make sure that no training was begun here.

        Raises:
            CondenseError: If one was.
        """
        if self.folder is not None and (self.folder / LAST).exists():
            raise CondenseError(
                f"{self.folder / LAST} exists already: a training was begun here",
                hint="--resume continues it, --force starts over",
            )

    def read_last(self) -> dict[str, Any] | None:
        """The state to go on from; None if nothing was saved yet.

        Raises:
            CondenseError: If it belongs to another training: says in what they differ.
        """
        if self.folder is None or not (self.folder / LAST).exists():
            logger.info("nothing to resume: the training starts from the beginning")
            return None
        if self.is_writer:
            self._sweep()
        return self._read(LAST)

    def read_best(self) -> Best:
        """The best epoch so far."""
        if self.folder is None:
            raise ValueError("a training without a folder has no best.pt")
        found = self._read(BEST)
        return Best(found["epoch"], found["val_top1"], found["model"])

    def write_last(self, position: Position, **parts: Any) -> None:
        """Save where the training is, and the state of all its parts."""
        self._write(LAST, position=asdict(position), **parts)

    def write_best(self, best: Best) -> None:
        """Save the best epoch."""
        self._write(BEST, epoch=best.epoch, val_top1=best.val_top1, model=best.weights)

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Save one line an epoch."""
        if self.folder is not None and self.is_writer:
            with written_whole(self.folder / METRICS, force=True) as path:
                lines = "".join(json.dumps(record) + "\n" for record in history)
                path.write_text(lines, encoding="utf-8")

    def _sweep(self) -> None:
        """Remove what a kill left half written."""
        for name in (LAST, BEST, METRICS):
            for partial in Path(self.folder or "").glob(f".{name}.*"):
                partial.unlink(missing_ok=True)

    def _write(self, name: str, **content: Any) -> None:
        if self.folder is None or not self.is_writer:
            return
        head = {"format": FORMAT, "schema": SCHEMA, "identity": self.identity}
        buffer = io.BytesIO()  # a full disk is an OSError for bytes, a RuntimeError in torch.save
        torch.save(head | content, buffer)
        with written_whole(self.folder / name, force=True) as path:
            path.write_bytes(buffer.getbuffer())

    def _read(self, name: str) -> dict[str, Any]:
        path = Path(self.folder or "") / name
        found = read_plain(path)
        if (found.get("format"), found.get("schema")) != (FORMAT, SCHEMA):
            raise CondenseError(
                f"{path} is no training state of schema {SCHEMA}", hint="--force starts over"
            )
        if changes := differences(found["identity"], self.identity):
            raise CondenseError(
                f"{path} belongs to another training: {'; '.join(changes)}",
                hint="resume with what it was begun with, or start over with --force",
            )
        return found


def identity_of(
    config: dict[str, Any],
    inputs: dict[str, Any],
    data: str,
    student: nn.Module,
    teacher: nn.Module | None,
) -> dict[str, Any]:
    """What must be equal for a training to be continued."""
    options = {name: value for name, value in config.items() if name not in MAY_DIFFER}
    return {
        **options,
        **{name: None if v is None else list(v) for name, v in inputs.items()},
        "the data": data,
        "the student": digest_of(student),
        "the teacher": None if teacher is None else digest_of(teacher),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what two identities differ, in words."""
    return [
        f"{name} is not the same"
        if name.startswith("the ")
        else f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def digest_of(model: nn.Module) -> str:
    """Hash of a model's weights and buffers with their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
