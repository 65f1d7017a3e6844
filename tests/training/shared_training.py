"""One of several processes of a training: python shared_training.py FOLDER."""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from condense.training import finetune


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    result = finetune(
        network(0),
        teacher=network(1),
        data="digits",
        folder=folder,
        epochs=2,
        teacher_weight=0.1,
        batch_size=64,
        lr=0.1,
        ema=True,
    )
    rank = os.environ.get("RANK", "0")
    facts = {"top1": result.val_top1, "test": result.test.top1, "model": result.model.state_dict()}
    torch.save(facts, folder / f"result{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
