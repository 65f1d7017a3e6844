"""A short training that says where it is, to be killed from outside.

python killed_training.py FOLDER [--resume]
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from condense.training import EpochRecord, Interrupted, finetune


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Steps:
    """One line a step."""

    def start(self, total: int, done: int) -> None:
        self.count = done // 64

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        self.count += images // 64
        say(f"step {self.count}")

    def epoch_done(self, record: EpochRecord) -> None:
        say(f"epoch {record.epoch}")

    def stop(self) -> None:
        say("stop")


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(288, 10),
    )


def main(folder: Path, *, resume: bool) -> None:
    torch.set_num_threads(1)
    result = finetune(
        network(0),
        teacher=network(1),
        data="digits",
        folder=folder,
        resume=resume,
        progress=Steps(),
        epochs=3,
        batch_size=64,
        ema=True,
        save_every_s=0.05,
        lr=0.02,
    )
    torch.save(result.model.state_dict(), folder / "result.pt")
    facts = {"best_epoch": result.best_epoch, "val_top1": result.val_top1}
    (folder / "result.json").write_text(json.dumps(facts | {"test": result.test.top1}))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), resume="--resume" in sys.argv)
    except Interrupted as interrupt:
        sys.exit(interrupt.exit_code)
