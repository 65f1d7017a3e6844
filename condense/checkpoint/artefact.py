"""condense's own file: weights, where they came from, and the plan that rebuilds the network.

    {"format": "condense", "schema": 1, "origin": {…}, "plan": {…} or None,
     "state_dict": {…}, "details": {…}}

Plain types and tensors only, so that torch opens it weights-only. What it says of its architecture
is believed for condense, torchvision and timm; importing anything else takes the user's word.
"""

import io
import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense.checkpoint import architectures, fitting, states
from condense.checkpoint.origin import Origin, attach, origin_of
from condense.checkpoint.preprocessing import Preprocessing, settle
from condense.checkpoint.reading import read
from condense.checkpoint.request import Request
from condense.checkpoint.states import State
from condense.conversion import Plan, apply
from condense.errors import CheckpointError, CondenseError, UntrustedFileError
from condense.run import written_whole

FORMAT, SCHEMA = "condense", 1
PLAIN = (str, int, float, bool, type(None))

log = logging.getLogger(__name__)


def save(
    model: nn.Module,
    path: str | Path,
    *,
    force: bool = False,
    details: dict[str, Any] | None = None,
) -> None:
    """Write a model to one file that `load` opens anywhere, weights-only.

    Args:
        model: Any module; one from `load`, or converted from one, needs nothing to be loaded again.
        path: Where to. Written whole or not at all.
        force: Overwrite what is there.
        details: Plain values to keep beside the weights.

    Raises:
        CondenseError: If the file exists already, or the disk refuses.
        TypeError: If `details` holds more than plain values.
    """
    details = details or {}
    _check_plain(details, "details")
    origin = origin_of(model) or Origin(num_classes=fitting.classes_of(model))
    plan = getattr(model, "plan", None)
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        "origin": replace(origin, file=origin.file and Path(origin.file).name).to_dict(),
        "plan": plan.to_dict() if plan is not None else None,
        "state_dict": {
            key: value.detach().cpu().clone() for key, value in model.state_dict().items()
        },
        "details": details,
    }
    buffer = io.BytesIO()  # a full disk is an OSError for bytes, a RuntimeError in torch.save
    torch.save(content, buffer)
    with written_whole(path, force=force) as partial:
        partial.write_bytes(buffer.getbuffer())
    if not is_known(model):
        log.warning("%s: loading it will need arch=, a factory of %s", path, type(model).__name__)


def is_known(model: nn.Module) -> bool:
    """Whether its architecture is condense's, torchvision's or timm's, and so can be named."""
    origin = origin_of(model)
    return (
        origin is not None
        and origin.architecture is not None
        and architectures.is_built_in(origin.architecture)
    )


def is_artefact(content: Any) -> bool:
    """Whether a file's content is of this format."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT


def restore(content: Mapping[str, Any], path: Path, request: Request) -> nn.Module:
    """The network that was saved.

    Raises:
        UntrustedFileError: If its architecture is code that the user did not name.
        CheckpointError: If the file is of a later schema, damaged, or does not fit.
    """
    _check_schema(content, path)
    origin = Origin.from_dict(content["origin"])
    name = _architecture_name(origin, path, request)
    recorded_args = origin.arch_args if name == origin.architecture else {}
    origin = replace(origin, architecture=name, arch_args=recorded_args | request.arch_args)
    state = states.sound(content["state_dict"], str(path))
    network = _rebuilt(origin, content["plan"], state, path)
    found = fitting.classes_of(network)
    request.check_classes(found, path)
    recorded = Preprocessing(input_size=origin.input_size, mean=origin.mean, std=origin.std)
    channels = architectures.known_channels(str(origin.architecture), network)
    preprocessing = settle(request.preprocessing, recorded, channels)
    return attach(
        network,
        replace(
            origin,
            num_classes=found,
            input_size=preprocessing.input_size,
            mean=preprocessing.mean,
            std=preprocessing.std,
        ),
    )


def restore_onto(original: nn.Module, path: str | Path) -> nn.Module:
    """A saved model, rebuilt from the one that it was converted from instead of by name.

    So a network whose class is the user's own needs no factory.

    Args:
        original: As it was when the model was converted; it stays untouched.
        path: What `save` wrote.

    Raises:
        CheckpointError: If the file is no artefact, damaged, or does not fit the original.
    """
    path = Path(path)
    content = read(path)
    if not is_artefact(content):
        raise CheckpointError(f"{path} was not saved by condense, expected one of its files")
    _check_schema(content, path)
    state = states.sound(content["state_dict"], str(path))
    network = _converted(original, content["plan"], path)
    origin = origin_of(original) or Origin.from_dict(content["origin"])
    return attach(fitting.fill(network, state, str(path)), origin)


def _rebuilt(origin: Origin, plan: Mapping[str, Any] | None, state: State, path: Path) -> nn.Module:
    architecture = architectures.find(str(origin.architecture), origin.arch_args)
    if plan is None:
        return fitting.fitted(architecture, [("state_dict", state)], str(path))
    size = origin.input_size or plan.get("input_size")
    network = architecture.build(
        num_classes=origin.num_classes, in_channels=size[0] if size else None
    )
    return fitting.fill(_converted(network, plan, path), state, str(path))


def _converted(network: nn.Module, plan: Mapping[str, Any] | None, path: Path) -> nn.Module:
    if plan is None:
        return deepcopy(network)
    try:
        return apply(Plan.from_dict(plan), network)
    except CondenseError as error:
        raise CheckpointError(
            f"{path} holds a plan that its network cannot follow: {error}",
            hint="convert the original checkpoint again",
        ) from error


def _architecture_name(origin: Origin, path: Path, request: Request) -> str:
    if request.arch is not None:
        return architectures.find(request.arch, request.arch_args).name
    if origin.architecture is None:
        raise CheckpointError(
            f"{path} holds weights of a class of its maker's own and no architecture",
            hint="name it: --arch pkg.mod:factory or --arch file.py:factory",
        )
    if request.trust or architectures.is_built_in(origin.architecture):
        return origin.architecture
    raise UntrustedFileError(
        f"{path} holds weights of {origin.architecture}, which would be imported and called",
        hint=f"name it with --arch {origin.architecture}, or open the file with --trust",
    )


def _check_schema(content: Mapping[str, Any], path: Path) -> None:
    schema = content.get("schema")
    if schema != SCHEMA:
        raise CheckpointError(
            f"{path} is of schema {schema}, expected {SCHEMA}", hint="update condense"
        )
    kinds = {"origin": Mapping, "plan": Mapping | None, "state_dict": Mapping}
    for key, kind in kinds.items():
        if key not in content or not isinstance(content[key], kind):
            raise CheckpointError(
                f"{path} is a damaged file of condense: no usable {key!r}",
                hint="save or convert the model again",
            )
    if not all(isinstance(value, Tensor) for value in content["state_dict"].values()):
        raise CheckpointError(f"{path} is a damaged file of condense: weights that are no tensors")


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, where)
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item, where)
    elif type(value) not in PLAIN:
        raise TypeError(f"{where} holds a {type(value).__name__}, expected plain values")
