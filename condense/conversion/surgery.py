"""From a plan and a model to the converted model: a copy in which only the repeats differ."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from condense.analysis.failures import describe_failure
from condense.conversion.convolutions import mixed
from condense.conversion.plan import Plan, Replacement
from condense.errors import CondenseError, NothingToConvertError
from condense.layers import build_layer
from condense.measurement.observe import evaluating, random_images


def apply(plan: Plan, model: nn.Module) -> nn.Module:
    """A copy of `model` with `plan` applied; its attribute `plan` holds the plan.

    The first of a stage's repeats gives its place to the new layers, the others to `nn.Identity`;
    in a control all of them are. A plan of scope `conv` gives each convolution's place to one that
    begins with what fits of its weights. Every other module keeps its weights, hooks and mode.

    Args:
        plan: From `make_plan` or `Plan.from_dict`.
        model: The original; left as it was.

    Raises:
        NothingToConvertError: If the plan replaces nothing.
        CondenseError: If the plan does not fit the model.
    """
    if not plan.replacements:
        raise NothingToConvertError(
            "the plan replaces nothing", hint="see `condense analyze` for what can be replaced"
        )
    if getattr(model, "plan", None) is not None:
        raise CondenseError(
            "the model has been converted already, a plan fits the original only",
            hint="load the original checkpoint and convert that",
        )
    _check_channels(plan, model)
    student = _copy(model)
    modules = [[_block(student, name) for name in item.blocks] for item in plan.replacements]
    new = [] if plan.control else list(_drawn(plan, modules))
    for number, blocks in enumerate(modules):
        first, *rest = blocks
        _put(student, first, new[number] if new else nn.Identity())
        for block in rest:
            _put(student, block, nn.Identity())
    _check_runs(student, model, plan, removed=[block for blocks in modules for block in blocks])
    student.plan = plan  # type: ignore[assignment]  # plain data, which deepcopy keeps
    return student


def _copy(model: nn.Module) -> nn.Module:
    try:
        return deepcopy(model)
    except Exception as error:  # a foreign class may refuse in any way
        raise CondenseError(
            f"the model cannot be copied: {error}",
            hint="remove what cannot be copied (open files, tensors with a history) and try again",
        ) from error


def _block(model: nn.Module, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if name not in modules or not name:
        near = get_close_matches(name, modules, n=1)
        hint = f"the nearest is {near[0]!r}; " if near else ""
        raise CondenseError(
            f"the plan replaces a block {name!r}, the model has none of that name",
            hint=f"{hint}was the plan made for another model?",
        )
    return modules[name]


def _check_channels(plan: Plan, model: nn.Module) -> None:
    """A layer may not notice maps that it was not made for."""
    found: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[module] = next(leaf.shape[1] for leaf in inputs if isinstance(leaf, Tensor))

    firsts = [_block(model, item.blocks[0]) for item in plan.replacements]
    handles = [block.register_forward_pre_hook(note) for block in firsts]
    try:
        with evaluating(model):
            model(random_images(model, plan.input_size))
    except Exception as error:  # whatever a foreign model raises on an image that it cannot take
        raise describe_failure(error, [], model, plan.input_size) from error
    finally:
        for handle in handles:
            handle.remove()
    for item, block in zip(plan.replacements, firsts, strict=True):
        if found.get(block) != item.channels and not plan.control:
            raise CondenseError(
                f"the plan has {item.channels} channels for {item.stage}, "
                f"the maps there have {found.get(block)}",
                hint="was the plan made for another model?",
            )


def _drawn(plan: Plan, modules: Sequence[Sequence[nn.Module]]) -> Iterator[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(plan.seed)
        drawn = [
            _build(item) if plan.scope == "stage" else mixed(blocks[0], item.blocks[0])
            for item, blocks in zip(plan.replacements, modules, strict=True)
        ]
    for layers, (block, *_) in zip(drawn, modules, strict=True):
        like = next(block.parameters(), torch.empty(0))
        yield layers.to(device=like.device, dtype=like.dtype).train(block.training)


def _build(item: Replacement) -> nn.Module:
    layers = [build_layer(item.layer, item.channels, item.options) for _ in range(item.count)]
    return layers[0] if item.count == 1 else nn.Sequential(*layers)


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Give every name of `old` to `new`, which takes over its mode."""
    new.train(old.training)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, new)


def _check_runs(
    student: nn.Module, model: nn.Module, plan: Plan, removed: Sequence[nn.Module]
) -> None:
    """The converted model must run without the removed blocks and give what the original gave."""
    images = random_images(model, plan.input_size)
    calls: dict[nn.Module, int] = dict.fromkeys(removed, 0)
    with evaluating(model):
        before = _shapes(model(images))
    try:
        with evaluating(student), _counted(calls):
            after = _shapes(student(images))
    except Exception as error:  # a foreign forward may need whatever the block had
        raise CondenseError(
            f"the model does not run without the blocks that the plan removes: {error}",
            hint="name other stages with --stages",
        ) from error
    if before != after:
        raise CondenseError(f"the converted model gives {after} where the original gave {before}")
    if any(calls.values()):
        raise CondenseError(
            "a removed block is still called: the model holds it in a place other than its modules",
            hint="keep blocks in nn.ModuleList, nn.ModuleDict or attributes, not in plain lists",
        )


@contextmanager
def _counted(calls: dict[nn.Module, int]) -> Iterator[None]:
    def count(module: nn.Module, inputs: Any) -> None:
        del inputs
        calls[module] += 1

    handles = [module.register_forward_pre_hook(count) for module in calls]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shapes(output: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
