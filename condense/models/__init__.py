"""The papers' networks and their baselines, as plain modules.

    from condense.models import create, names
    network = create("resnet32", num_classes=10)

Each family registers its networks in its own file; `MODELS` holds all of them, with the input size
and the normalisation that each was published with. `PUBLISHED` holds what the papers print.
"""

from condense.models import (
    cifar_ode,
    cifar_resnet,
    darts,
    densenet,
    digits,
    global_resnet,
    low_cost,
    mdeq,
    mnist,
    mnist10,
    mobile_global,
    projection_resnet,
    wide_resnet,
)
from condense.models.authors import authors_state_dict, from_authors, load_authors
from condense.models.published import PUBLISHED, Figures, PublishedRow
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec, create, names

__all__ = [
    "MODELS",
    "NORMALIZATIONS",
    "PUBLISHED",
    "Figures",
    "ModelSpec",
    "PublishedRow",
    "authors_state_dict",
    "cifar_ode",
    "cifar_resnet",
    "create",
    "darts",
    "densenet",
    "digits",
    "from_authors",
    "global_resnet",
    "load_authors",
    "low_cost",
    "mdeq",
    "mnist",
    "mnist10",
    "mobile_global",
    "names",
    "projection_resnet",
    "wide_resnet",
]
