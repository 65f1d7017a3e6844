"""The demo's small pretrained network, made anew: `python -m condense.training.demo_weights`.

Trains `resnet_digits` from scratch on scikit-learn's digits, by the same loop as every other
training here, and writes the weights of the best held-out epoch beside the model.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from condense import models
from condense.models.digits import WEIGHTS
from condense.run import written_whole
from condense.training.finetuning import finetune

EPOCHS, SEED = 40, 0


def make(path: Path = WEIGHTS, *, epochs: int = EPOCHS) -> float:
    """Train, write the weights, and return the accuracy on the test digits."""
    torch.manual_seed(SEED)
    network = models.create("resnet_digits", num_classes=10)
    spec = models.MODELS["resnet_digits"]
    result = finetune(
        network,
        teacher=None,
        data="digits",
        epochs=epochs,
        batch_size=64,
        lr=0.1,
        seed=SEED,
        input_size=spec.input_size,
        mean=spec.mean,
        std=spec.std,
        test=True,
    )
    with written_whole(path, force=True) as partial:
        save_file(result.model.state_dict(), partial)
    return result.test.top1 if result.test else 0.0


if __name__ == "__main__":
    sys.stdout.write(f"top-1 on the test digits: {make():.4f}\n")
