"""Random chains in random containers are found exactly; surgery changes nothing else."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from condense.analysis import analyze
from condense.conversion import apply, make_plan

SIZE = (3, 8, 8)
LAYOUTS = ("list", "dict", "attributes", "sequential")
stages_of = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(LAYOUTS)), min_size=1, max_size=3)


class Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(before, after, 3, stride=2 if before != after else 1, padding=1)
        self.norm = nn.BatchNorm2d(after)
        self.up = nn.Conv2d(after, after, 3, padding=1)
        self.same = before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.norm(self.down(x)).relu_())
        return (y + x).relu_() if self.same else y.relu_()


class Chain(nn.Module):
    """A transition and so many repeats per stage, each stage stored in its own manner."""

    def __init__(self, stages: list[tuple[int, str]], names: list[str]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 1)
        self.order: list[list[str]] = []
        for number, (repeats, layout) in enumerate(stages):
            width = 2 ** (number + 1)
            blocks = [
                Block(width, 2 * width),
                *(Block(2 * width, 2 * width) for _ in range(repeats)),
            ]
            self.order.append(self._store(f"{names[number]}{number}", blocks, layout))

    def _store(self, name: str, blocks: list[Block], layout: str) -> list[str]:
        if layout == "attributes":
            for place, block in enumerate(blocks):
                setattr(self, f"{name}_{place}", block)
            return [f"{name}_{place}" for place in range(len(blocks))]
        if layout == "dict":
            setattr(self, name, nn.ModuleDict({f"b{i}": block for i, block in enumerate(blocks)}))
            return [f"{name}.b{i}" for i in range(len(blocks))]
        held = nn.ModuleList(blocks) if layout == "list" else nn.Sequential(*blocks)
        setattr(self, name, held)
        return [f"{name}.{i}" for i in range(len(blocks))]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.order:
            for name in stage:
                x = self.get_submodule(name)(x)
        return x.mean((2, 3))


words = st.lists(st.text("abcxyz", min_size=1, max_size=4), min_size=3, max_size=3)


@given(stages=stages_of, names=words)
def test_every_chain_is_found_exactly(stages: list[tuple[int, str]], names: list[str]) -> None:
    model = Chain(stages, names)
    found = analyze(model, SIZE)
    assert [list(stage.blocks) for stage in found] == model.order
    assert [list(stage.repeats) for stage in found] == [order[1:] for order in model.order]
    assert all(stage.convertible for stage in found)
    assert len({stage.name for stage in found}) == len(found)


@given(stages=stages_of, names=words, keep=st.integers(1, 2), is_control=st.booleans())
def test_surgery_keeps_everything_else(
    stages: list[tuple[int, str]], names: list[str], keep: int, is_control: bool
) -> None:
    model = Chain([(repeats + 1, layout) for repeats, layout in stages], names)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = make_plan(model, analyze(model, SIZE), keep=keep)
    student = apply(plan.as_control() if is_control else plan, model)
    gone = tuple(f"{name}." for item in plan.replacements for name in item.blocks)
    kept = {name: value for name, value in before.items() if not name.startswith(gone)}
    after = student.state_dict()
    assert all(torch.equal(after[name], value) for name, value in kept.items())
    assert {name for name in after if not name.startswith(gone)} == set(kept)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
