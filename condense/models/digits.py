"""The demo's network: a ResNet for scikit-learn's 8x8 digits, small enough to be shipped."""

from functools import partial
from pathlib import Path

from condense.models.cifar_resnet import cifar_resnet
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec

WEIGHTS = Path(__file__).with_name("resnet_digits.safetensors")
"""Pretrained weights of `resnet_digits`, by `python -m condense.training.demo_weights`."""

MODELS.register("resnet_digits")(
    ModelSpec(
        partial(cifar_resnet, 5, in_channels=1, widths=(16, 32)),
        (1, 8, 8),
        *NORMALIZATIONS["digits"],
        "ResNet-22 for 8x8 digits: two stages of five BasicBlocks, 16 and 32 channels wide",
    )
)
