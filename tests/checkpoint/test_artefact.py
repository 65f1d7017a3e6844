"""What is saved comes back the same, and stays plain."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from condense.checkpoint import Origin, load, origin_of, restore_onto, save
from condense.conversion import convert
from condense.errors import CheckpointError, CondenseError
from condense.models import create
from condense.run import sha256


@pytest.fixture
def original(tmp_path: Path) -> nn.Module:
    torch.manual_seed(0)
    torch.save(create("resnet_digits", num_classes=4).state_dict(), tmp_path / "digits.pt")
    return load(tmp_path / "digits.pt", mean=[0.25], std=[0.5])


def changed(path: Path, **values) -> Path:
    content = torch.load(path, weights_only=True)
    torch.save(content | values, path)
    return path


def test_round_trip_keeps_weights_origin_and_precision(original, tmp_path: Path) -> None:
    save(original, tmp_path / "a.pt", details={"epoch": 3, "scores": [0.5, None, True]})
    model = load(tmp_path / "a.pt")
    torch.testing.assert_close(model.state_dict(), original.state_dict(), rtol=0, atol=0)
    assert not model.training
    origin = origin_of(model)
    assert origin == Origin(
        architecture="condense:resnet_digits",
        num_classes=4,
        input_size=(1, 8, 8),
        mean=(0.25,),
        std=(0.5,),
        file="digits.pt",
        sha256=sha256(tmp_path / "digits.pt"),
    )


def test_the_file_is_plain_and_names_no_folder(original, tmp_path: Path) -> None:
    save(original, tmp_path / "a.pt", details={"epoch": 3})
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(content) == ["format", "schema", "origin", "plan", "state_dict", "details"]
    assert (content["format"], content["schema"], content["plan"]) == ("condense", 1, None)
    assert content["details"] == {"epoch": 3}
    assert content["origin"]["file"] == "digits.pt"


@pytest.mark.parametrize("is_control", [False, True])
def test_a_converted_model_is_rebuilt_from_its_plan(original, tmp_path: Path, is_control) -> None:
    student = convert(original, "all", layer="global", keep=1, steps=2)
    if is_control:
        from condense.conversion import apply

        student = apply(student.plan.as_control(), original)
    student.eval()
    save(student, tmp_path / "a.pt")
    model = load(tmp_path / "a.pt")
    assert model.plan == student.plan
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(model(x), student(x), rtol=0, atol=0)
    save(model, tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_bytes() != b""
    torch.testing.assert_close(load(tmp_path / "b.pt")(x), student(x), rtol=0, atol=0)


def test_origin_survives_a_deep_copy(original) -> None:
    assert origin_of(deepcopy(original)) == original.origin
    assert origin_of(nn.Linear(1, 1)) is None


def test_what_exists_is_kept_without_force(original, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("precious")
    with pytest.raises(CondenseError, match="exists already"):
        save(original, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_text() == "precious"
    save(original, tmp_path / "a.pt", force=True)
    assert load(tmp_path / "a.pt").origin.num_classes == 4


def test_a_failed_write_leaves_what_was_there(original, tmp_path: Path, monkeypatch) -> None:
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.pt").write_text("precious")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CondenseError, match="No space left on device"):
        save(original, tmp_path / "a.pt", force=True)
    assert [item.name for item in tmp_path.iterdir() if "a.pt" in item.name] == ["a.pt"]
    assert (tmp_path / "a.pt").read_text() == "precious"


def test_details_have_to_be_plain(original, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"details\['x'\] holds a Tensor, expected plain values"):
        save(original, tmp_path / "a.pt", details={"x": [torch.zeros(1)]})
    assert not (tmp_path / "a.pt").exists()


def test_a_class_of_ones_own_needs_its_factory(tmp_path: Path, caplog) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=10):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))\n"
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    save(network, tmp_path / "a.pt")
    assert "loading it will need arch=, a factory of Sequential" in caplog.text
    with pytest.raises(CheckpointError, match="a class of its maker's own"):
        load(tmp_path / "a.pt")
    arch = f"{tmp_path / 'mine.py'}:net"
    model = load(tmp_path / "a.pt", arch=arch, input_size=(3, 2, 2))
    torch.testing.assert_close(model.state_dict(), network.state_dict())
    assert model.origin.architecture == arch
    assert (model.origin.num_classes, model.origin.input_size) == (3, (3, 2, 2))


def test_wishes_come_before_what_was_recorded(original, tmp_path: Path) -> None:
    save(original, tmp_path / "a.pt")
    model = load(tmp_path / "a.pt", input_size=(1, 16, 16), normalization="none")
    assert model.origin.input_size == (1, 16, 16)
    assert (model.origin.mean, model.origin.std) == ((0.0,), (1.0,))
    with pytest.raises(CheckpointError, match="has 4 classes in its weights, expected 5"):
        load(tmp_path / "a.pt", num_classes=5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": 2}, "is of schema 2, expected 1"),
        ({"origin": None}, "damaged file of condense: no usable 'origin'"),
        ({"plan": [1]}, "no usable 'plan'"),
        ({"state_dict": {"a": 1}}, "weights that are no tensors"),
        ({"state_dict": {"a": torch.zeros(1)}}, r"conv1\.weight of shape .* is missing"),
        ({"origin": {"architcture": "x"}}, "an origin has no field 'architcture'"),
        ({"origin": {"arch_args": None}}, "an origin's arch_args cannot be None"),
        ({"origin": {"input_size": [3, "x", 3]}}, "an origin's input_size cannot be"),
        ({"origin": {"input_size": [3, 3]}}, "an origin's input_size cannot be"),
        ({"origin": {"num_classes": "ten"}}, "an origin's num_classes cannot be 'ten'"),
    ],
)
def test_damaged_artefacts(original, tmp_path: Path, values, message: str) -> None:
    save(original, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        load(changed(tmp_path / "a.pt", **values))


def test_a_plan_that_does_not_fit_the_network(original, tmp_path: Path) -> None:
    save(convert(original, "all"), tmp_path / "a.pt")
    plan = torch.load(tmp_path / "a.pt", weights_only=True)["plan"]
    plan["replacements"][0]["blocks"][0] = "layer9.1"
    with pytest.raises(CheckpointError, match=r"plan that its network cannot follow"):
        load(changed(tmp_path / "a.pt", plan=plan))


class Own(nn.Module):
    """Nothing that a factory could make without being told."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Step() for _ in range(blocks)))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.conv(x))


def test_ones_own_class_is_rebuilt_from_the_original(tmp_path: Path) -> None:
    original = Own(3).eval()
    original.origin = Origin(input_size=(4, 6, 6))
    student = convert(original, "all").eval()
    save(student, tmp_path / "a.pt")
    model = restore_onto(original, tmp_path / "a.pt")
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(model(x), student(x), rtol=0, atol=0)
    assert model.plan == student.plan
    save(original, tmp_path / "b.pt")
    assert restore_onto(original, tmp_path / "b.pt") is not original


def test_only_artefacts_are_restored_onto_a_network(original, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="was not saved by condense"):
        restore_onto(original, tmp_path / "digits.pt")


def test_weights_that_are_not_finite_are_refused(original, tmp_path: Path) -> None:
    original.linear.bias.data[0] = float("nan")
    save(original, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"linear\.bias has 1 values of 4"):
        load(tmp_path / "a.pt")
