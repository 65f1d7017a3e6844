"""Carrying out a plan on a model."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from condense.conversion import Plan, apply, convert, make_plan
from condense.errors import CondenseError, NothingToConvertError
from condense.layers import GlobalLayer
from condense.models import create

SIZE = (3, 32, 32)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return create("resnet20")


@pytest.fixture
def plan(model: nn.Module) -> Plan:
    return make_plan(model, "all", input_size=SIZE, seed=7)


def test_the_first_repeat_becomes_the_layer_and_the_others_nothing(
    model: nn.Module, plan: Plan
) -> None:
    student = apply(plan, model)
    layers = [student.get_submodule(f"layer2.{n}") for n in range(3)]
    assert [type(layer).__name__ for layer in layers] == ["BasicBlock", "GlobalLayer", "Identity"]
    assert student.plan is plan


def test_the_original_is_left_alone(model: nn.Module, plan: Plan) -> None:
    before = deepcopy(model.state_dict())
    apply(plan, model)
    assert not hasattr(model, "plan")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_plan_gives_the_same_bits_again_and_moves_no_generator(
    model: nn.Module, plan: Plan
) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = apply(plan, model).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = apply(Plan.from_dict(plan.to_dict()), model).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = apply(replace(plan, seed=8), model).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_control_has_no_new_layers(model: nn.Module, plan: Plan) -> None:
    control = apply(plan.as_control(), model)
    assert isinstance(control.get_submodule("layer1.1"), nn.Identity)
    assert not any(isinstance(module, GlobalLayer) for module in control.modules())
    assert control.plan == plan.as_control()


def test_mode_hooks_and_attributes_are_kept(model: nn.Module, plan: Plan) -> None:
    model.train()
    model.get_submodule("layer1.0").eval()
    model.origin = "somewhere"  # type: ignore[assignment]
    seen = []
    model.get_submodule("linear").register_forward_hook(lambda *given: seen.append(given))
    student = apply(plan, model)
    seen.clear()
    assert student.get_submodule("layer1.1").training
    assert not student.get_submodule("layer1.0").training
    assert student.origin == "somewhere"
    student.eval()(torch.zeros(1, *SIZE))
    assert len(seen) == 1
    assert deepcopy(student).plan == plan


def test_new_layers_have_the_type_of_what_they_replace(model: nn.Module, plan: Plan) -> None:
    student = apply(plan, model.double())
    assert student(torch.zeros(2, *SIZE).double()).dtype == torch.float64


def test_a_block_with_two_names_is_replaced_under_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 1)
            self.net = create("resnet20").get_submodule("layer1")
            self.last = self.net.get_submodule("2")

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for number in (0, 1):
                x = self.net.get_submodule(str(number))(x)
            return self.last(x)

    student = convert(Twice(), "all", input_size=SIZE)
    assert isinstance(student.last, nn.Identity)
    assert student.last is student.net.get_submodule("2")


def test_an_empty_plan_is_an_error(model: nn.Module) -> None:
    with pytest.raises(NothingToConvertError, match="the plan replaces nothing"):
        apply(Plan(replacements=(), input_size=SIZE), model)


def test_a_plan_fits_the_original_only(model: nn.Module, plan: Plan) -> None:
    with pytest.raises(CondenseError, match="converted already") as caught:
        apply(plan, apply(plan, model))
    assert caught.value.hint == "load the original checkpoint and convert that"


def test_a_plan_for_another_model_names_the_block(plan: Plan) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(CondenseError, match=r"block 'layer1\.1', the model has none") as caught:
        apply(plan, model)
    assert "another model" in str(caught.value.hint)


def test_a_wrong_number_of_channels_shows_at_once(model: nn.Module, plan: Plan) -> None:
    first, *rest = plan.replacements
    wrong = replace(plan, replacements=(replace(first, channels=5), *rest))
    with pytest.raises(CondenseError, match="has 5 channels for layer1, the maps there have 16"):
        apply(wrong, model)


def test_a_plan_for_another_input_size_is_refused(model: nn.Module, plan: Plan) -> None:
    with pytest.raises(CondenseError, match="does not run on a 1x32x32 image"):
        apply(replace(plan, input_size=(1, 32, 32)), model)


def test_a_block_that_changes_the_output_cannot_go(model: nn.Module, plan: Plan) -> None:
    first = replace(plan.replacements[0], stage="linear", blocks=("linear",))
    with pytest.raises(CondenseError, match="where the original gave"):
        apply(replace(plan, replacements=(first,)).as_control(), model)


class Listed(nn.Module):
    """Keeps its blocks in a plain list too, and calls them there."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.stage = create("resnet20").get_submodule("layer1")
        self.order = list(self.stage.children())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.order:
            x = block(x)
        return x


def test_a_block_that_is_still_called_is_an_error() -> None:
    with pytest.raises(CondenseError, match="a removed block is still called"):
        convert(Listed(), "all", input_size=SIZE)


def test_a_model_that_cannot_be_copied_is_an_error(model: nn.Module, plan: Plan) -> None:
    model.extra = torch.ones(1, requires_grad=True) * 2  # a tensor with a history
    with pytest.raises(CondenseError, match="the model cannot be copied"):
        apply(plan, model)


@pytest.mark.parametrize("layer", ["global", "linear-mix"])
@pytest.mark.parametrize("build", [nn.Module.train, nn.Module.eval])
def test_gradients_reach_every_parameter(
    model: nn.Module, layer: str, build: Callable[[nn.Module], nn.Module]
) -> None:
    student = build(convert(model, "all", layer=layer, input_size=SIZE, steps=2))
    student(torch.randn(2, *SIZE)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
