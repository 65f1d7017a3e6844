"""From a file's content to state dicts: which there are, by which names, and if they are sound."""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from condense.errors import CheckpointError

State = dict[str, Tensor]

KNOWN_KEYS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("ema", "model_ema", "ema_state_dict", "state_dict_ema", "model_ema_state_dict", "student"),
)
"""Where training scripts keep the weights; the first that fits is taken."""

COUNTER = "num_batches_tracked"
"""BatchNorm's buffer that older checkpoints lack and inference has no use for."""

WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|module)\.")
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
AVERAGING = ("n_averaged",)

log = logging.getLogger(__name__)


def states_in(content: Any, where: str) -> list[tuple[str, State]]:
    """Every state dict in a file's content with the place it is at, the likeliest first.

    Raises:
        CheckpointError: If there is none.
    """
    found = list(_search(content, ""))
    if found:
        return found
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{where} holds a {type(content).__name__}, expected a state_dict",
            hint="save model.state_dict()",
        )
    keys = ", ".join(map(str, list(content)[:8])) or "none"
    if _is_optimizer(content) or any(_is_optimizer(value) for value in content.values()):
        raise CheckpointError(
            f"{where} holds an optimizer's state and no weights; its keys: {keys}",
            hint="name the file that the model's own state_dict was saved to",
        )
    raise CheckpointError(
        f"{where} holds no state_dict; its keys: {keys}", hint="save model.state_dict()"
    )


def modules_in(content: Any) -> list[tuple[str, nn.Module]]:
    """Modules with weights in a trusted file's content, the likeliest first.

    A module under a key of no meaning counts only where there is no state dict: it may be a loss.
    """
    if isinstance(content, nn.Module):
        return [("", _unwrapped(content))]
    if not isinstance(content, Mapping):
        return []
    has_state = next(_search(content, ""), None) is not None
    keys = [key for key in _in_order(content) if not has_state or key in KNOWN_KEYS]
    found = [(key, content[key]) for key in keys]
    return [
        (key, _unwrapped(value))
        for key, value in found
        if isinstance(value, nn.Module) and any(True for _ in value.parameters())
    ]


def readings(state: State) -> Iterator[State]:
    """The state as it is, then without the names that wrappers put before a network's own."""
    yield state
    plain = {WRAPPERS.sub("", key): value for key, value in state.items() if key not in AVERAGING}
    if plain.keys() != state.keys() and len(plain) >= len(state) - len(AVERAGING):
        yield plain
    older = {OLD_DENSENET.sub(r"\1\2", key): value for key, value in plain.items()}
    if older.keys() != plain.keys():
        yield older
    while prefix := _common_prefix(plain):
        plain = {key.removeprefix(prefix): value for key, value in plain.items()}
        yield plain


def sound(state: State, where: str) -> State:
    """The state in float32.

    Raises:
        CheckpointError: If a value is NaN or infinite, with the first tensor that has one.
    """
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise CheckpointError(
                f"{where}: {key} has {bad} values of {value.numel()} that are NaN or infinite",
                hint="the training that wrote it diverged: take an earlier checkpoint",
            )
    others = {
        str(value.dtype).removeprefix("torch.")
        for value in state.values()
        if value.is_floating_point() and value.dtype != torch.float32
    }
    if others:
        log.info("%s: weights in %s converted to float32", where, ", ".join(sorted(others)))
    return {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }


def _search(content: Any, place: str, depth: int = 4) -> Iterator[tuple[str, State]]:
    if not isinstance(content, Mapping) or depth == 0:
        return
    if _is_state(content):
        yield place, {key: value for key, value in content.items() if isinstance(value, Tensor)}
        return
    for key in _in_order(content):
        yield from _search(content[key], f"{place}.{key}".lstrip("."), depth - 1)


def _in_order(content: Mapping[Any, Any]) -> list[Any]:
    known = [key for key in KNOWN_KEYS if key in content]
    return known + [key for key in content if key not in known]


def _is_state(content: Mapping[Any, Any]) -> bool:
    return (
        all(isinstance(key, str) for key in content)
        and any(isinstance(value, Tensor) for value in content.values())
        and not any(isinstance(value, Mapping | nn.Module) for value in content.values())
    )


def _is_optimizer(content: Any) -> bool:
    return isinstance(content, Mapping) and {"state", "param_groups"} <= content.keys()


def _unwrapped(module: nn.Module) -> nn.Module:
    wrapped = getattr(module, "_orig_mod", module)
    if isinstance(wrapped, nn.DataParallel | nn.parallel.DistributedDataParallel):
        wrapped = wrapped.module
    return wrapped if isinstance(wrapped, nn.Module) else module


def _common_prefix(state: State) -> str | None:
    heads = {key.partition(".")[0] for key in state}
    if len(heads) != 1 or not all("." in key for key in state):
        return None
    return f"{heads.pop()}."
