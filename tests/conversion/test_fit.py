"""Fitting new layers to what they replace."""

import pytest
import torch
from torch import Tensor, nn

from condense.conversion import apply, convert
from condense.conversion.fit import FitOptions, fit, fit_to
from condense.errors import ConfigError, DataError
from condense.models import create

SIZE = (3, 16, 16)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(32, *SIZE, generator=torch.Generator().manual_seed(0))


def pair() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = create("resnet20").eval()
    return convert(teacher, "all", input_size=SIZE), teacher


def test_the_error_falls_and_only_new_layers_move(images: Tensor) -> None:
    student, teacher = pair()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    original = {name: value.clone() for name, value in teacher.state_dict().items()}
    fits = fit(student, teacher, images, FitOptions(steps=100))
    assert [item.stage for item in fits] == ["layer1", "layer2", "layer3"]
    assert all(item.after <= item.before for item in fits)
    assert fits[0].after < 0.95 * fits[0].before
    new = tuple(f"{item.blocks[0]}." for item in student.plan.replacements)
    for name, value in student.state_dict().items():
        assert name.startswith(new) or torch.equal(before[name], value)
    assert all(torch.equal(original[n], v) for n, v in teacher.state_dict().items())
    assert not any(module.training for module in student.modules())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_the_same_seed_gives_the_same_bits_and_moves_no_generator(images: Tensor) -> None:
    students = []
    state = torch.get_rng_state()
    for _ in range(2):
        student, teacher = pair()
        fit(student, teacher, images, FitOptions(steps=3, batch_size=8, seed=4))
        students.append(student.state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(students[0][name], students[1][name]) for name in students[0])


def test_a_layer_that_only_got_worse_is_put_back(images: Tensor) -> None:
    student, teacher = pair()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    fits = fit(student, teacher, images, FitOptions(steps=1, lr=100.0))
    assert [item.after for item in fits] == [item.before for item in fits]
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_a_data_set_is_prepared_as_the_teacher_expects() -> None:
    teacher = create("resnet_digits").eval()
    student = convert(teacher, "all", input_size=(1, 8, 8))
    fits = fit_to(student, teacher, "digits", seed=1)
    assert any(item.after < item.before for item in fits)


def test_a_control_has_nothing_to_fit(images: Tensor) -> None:
    student, teacher = pair()
    control = apply(student.plan.as_control(), teacher)
    for model in (control, teacher):
        with pytest.raises(ConfigError, match="no new layers to fit"):
            fit(model, teacher, images)


def test_no_images_is_an_error() -> None:
    student, teacher = pair()
    with pytest.raises(DataError, match="at least one image"):
        fit(student, teacher, torch.zeros(0, *SIZE))


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="steps >= 1"):
        FitOptions(steps=0)
