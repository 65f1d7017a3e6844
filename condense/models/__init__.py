"""The papers' networks and their baselines, as plain modules.

    from condense.models import create, names
    network = create("resnet32", num_classes=10)

Each family registers its networks in its own file; `MODELS` holds all of them, with the input size
and the normalisation that each was published with.
"""

from condense.models import cifar_resnet, digits, global_resnet, projection_resnet
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec, create, names

__all__ = [
    "MODELS",
    "NORMALIZATIONS",
    "ModelSpec",
    "cifar_resnet",
    "create",
    "digits",
    "global_resnet",
    "names",
    "projection_resnet",
]
