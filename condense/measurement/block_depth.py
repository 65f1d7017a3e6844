"""Depth in blocks: the papers' count, in which a PDE layer is one.

A block is the largest module whose class holds at least two weighted layers (convolutions or
linear maps) somewhere in the model, that turns maps into maps, and is not itself made of blocks
in a row. So the search goes down from the model:
- plain containers (`Sequential`, `ModuleList`, `ModuleDict` and their children) are looked
  through;
- so is a module that holds a PDE layer, one in which two modules of one class follow each other
  (the output of one is the input of the other: a stage, a backbone), or one around a single such
  module;
- what is left counts one each, and each PDE layer (any class of `condense.layers.LAYERS`) one;
- a head that gives no map is no block, nor is a class that occurs once and reads the image: a
  stem.

Only what ran counts, once however often it ran.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from condense.layers import LAYERS
from condense.measurement.observe import evaluating, random_images

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
WEIGHTED = (_ConvNd, nn.Linear)


def depth_blocks(model: nn.Module, input_size: Sequence[int]) -> int:
    """Blocks and PDE layers that one image passes.

    Args:
        model: Run once, on noise, in eval mode; left as it was.
        input_size: (C, H, W).
    """
    image = random_images(model, input_size)
    passes = _traced(model, image)
    search = _Search(passes, tuple(LAYERS[name] for name in LAYERS), _block_classes(model))
    blocks = list(search.blocks_in(model))
    found = [block for block in blocks if not search.is_pde_layer(block)]
    classes = Counter(type(block) for block in found)
    stems = [
        block
        for block in found
        if classes[type(block)] == 1 and any(leaf is image for leaf in passes[block].inputs)
    ]
    return len(blocks) - (len(stems) if len(blocks) > len(stems) else 0)


@dataclass(slots=True)
class _Pass:
    """What went in and out of one module, in all its calls; the tensors are kept, so `is` holds."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Search:
    passes: dict[nn.Module, _Pass]
    pde_layers: tuple[type[nn.Module], ...]
    block_classes: frozenset[type[nn.Module]]

    def is_pde_layer(self, module: nn.Module) -> bool:
        return isinstance(module, self.pde_layers)

    def blocks_in(self, module: nn.Module) -> Iterator[nn.Module]:
        """The blocks and PDE layers inside a module that is not one."""
        for part in self._parts(module):
            if self._is_looked_through(part):
                yield from self.blocks_in(part)
            elif self.is_pde_layer(part) or self._gives_maps(part):
                yield part

    def _parts(self, module: nn.Module) -> Iterator[nn.Module]:
        """The nearest modules inside that ran and may be blocks."""
        for child in module.children():
            if child in self.passes and (self.is_pde_layer(child) or self._is_candidate(child)):
                yield child
            else:
                yield from self._parts(child)

    def _is_candidate(self, module: nn.Module) -> bool:
        return type(module) in self.block_classes and _weighted_layers(module) > 0

    def _is_looked_through(self, module: nn.Module) -> bool:
        if self.is_pde_layer(module):
            return False
        if any(self.is_pde_layer(inner) and inner in self.passes for inner in module.modules()):
            return True
        parts = list(self._parts(module))
        if len(parts) == 1:
            return self._is_looked_through(parts[0])
        return any(self._follows(a, b) for a in parts for b in parts)

    def _follows(self, first: nn.Module, second: nn.Module) -> bool:
        if first is second or type(first) is not type(second):
            return False
        given = {id(leaf) for leaf in self.passes[first].outputs}
        return any(id(leaf) in given for leaf in self.passes[second].inputs)

    def _gives_maps(self, module: nn.Module) -> bool:
        return any(leaf.ndim > 2 for leaf in self.passes[module].outputs)


def _weighted_layers(module: nn.Module) -> int:
    return sum(isinstance(inner, WEIGHTED) for inner in module.modules())


def _block_classes(model: nn.Module) -> frozenset[type[nn.Module]]:
    """Classes of which some module has two weighted layers; others of the class may have one."""
    return frozenset(
        type(module)
        for module in model.modules()
        if not isinstance(module, CONTAINERS) and _weighted_layers(module) >= 2
    )


def _traced(model: nn.Module, image: Tensor) -> dict[nn.Module, _Pass]:
    passes: dict[nn.Module, _Pass] = {}

    def note_inputs(module: nn.Module, args: Any, kwargs: Any) -> None:
        # Before the call: a module may add to the list that it is given (DenseNet).
        passes.setdefault(module, _Pass()).inputs.extend(_tensors((args, kwargs)))

    def note_outputs(module: nn.Module, args: Any, output: Any) -> None:
        del args
        passes[module].outputs.extend(_tensors(output))

    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(note_inputs, with_kwargs=True))
        handles.append(module.register_forward_hook(note_outputs))
    try:
        with evaluating(model):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return passes


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
