"""Architectures told from names and shapes, and the table that this is done with."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from condense.checkpoint import generation, load, matching, signatures, zoos
from condense.checkpoint.matching import first_mismatch, match
from condense.checkpoint.signatures import CHANNELS, CLASSES, Signature, table
from condense.errors import CheckpointError
from condense.models import MODELS, create, names


def filled(signature: Signature, classes: int, channels: int) -> dict[str, torch.Tensor]:
    """Weights without memory that fit a signature."""
    sizes = {CLASSES: classes, CHANNELS: channels}
    return {
        key: torch.empty([sizes.get(n, n) for n in shape], device="meta")
        for key, shape in signature.shapes.items()
    }


@pytest.mark.parametrize("signature", table(), ids=lambda s: s.architecture + "".join(s.args))
def test_every_signature_is_recognised_and_no_other(signature: Signature, caplog) -> None:
    state = filled(signature, classes=13, channels=4)
    found = match(dict(reversed(state.items())))
    assert found is not None
    assert found.signature == signature
    assert (found.num_classes, found.in_channels) == (13, 4)
    assert not caplog.text


@given(st.data())
def test_one_weight_too_many_or_too_few_is_no_fit(data: st.DataObject) -> None:
    signature = data.draw(st.sampled_from(table()))
    state = filled(signature, classes=3, channels=3)
    key = data.draw(st.sampled_from(sorted(state)))
    assert match({k: v for k, v in state.items() if k != key}) is None
    assert match(state | {"extra": state[key]}) is None
    assert match(state | {key: torch.empty(9, 9, 9, device="meta")}) is None


def test_the_committed_table_holds_condenses_networks_as_they_are() -> None:
    fresh = {item.architecture: item for item in generation.condense_signatures()}
    committed = {s.architecture: s for s in table() if s.architecture.startswith("condense:")}
    assert committed == fresh, "run: python -m condense.checkpoint.generation"


@pytest.mark.slow
def test_the_committed_table_holds_torchvisions_networks_as_they_are() -> None:
    """Those that both have: another torchvision may have more or fewer."""
    committed = {(s.architecture, str(s.args)): s for s in table()}
    compared = 0
    for fresh in generation.torchvision_signatures():
        if (key := (fresh.architecture, str(fresh.args))) in committed:
            assert committed[key] == fresh, "run: python -m condense.checkpoint.generation"
            compared += 1
    assert compared >= 80


def test_the_table_is_small_and_written_the_same_every_time(tmp_path: Path, monkeypatch) -> None:
    assert signatures.TABLE.stat().st_size < 200_000
    monkeypatch.setattr(generation, "condense_names", lambda: ["resnet20"])
    monkeypatch.setattr(zoos, "torchvision_names", lambda: ["resnet18", "googlenet"])
    for name in ("a.gz", "b.gz"):
        generation.write(tmp_path / name)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    entries = json.loads(gzip.decompress((tmp_path / "a.gz").read_bytes()))
    kept = Counter(entry["architecture"] for entry in entries)
    assert kept["torchvision:googlenet"] == 2
    assert kept["torchvision:resnet18"] == 1


def test_a_dimension_that_follows_nothing_known_is_a_fault() -> None:
    with pytest.raises(ValueError, match="a dimension of 3, 4 and 3 follows no number"):
        generation._dimension((3, 4, 3))


@pytest.mark.parametrize("name", names())
def test_networks_of_condense_load_without_a_name(tmp_path: Path, name: str) -> None:
    _, height, width = MODELS[name].input_size
    network = create(name, num_classes=4, in_channels=2).eval()
    torch.save(network.state_dict(), tmp_path / "m.pt")
    model = load(tmp_path / "m.pt")
    assert model.origin.architecture == f"condense:{name}"
    assert model.origin.input_size == (2, height, width)
    x = torch.randn(1, 2, height, width)
    torch.testing.assert_close(model(x), network(x))


TORCHVISION = [
    *("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "mobilenet_v2"),
    *("mobilenet_v3_large", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny"),
    *("squeezenet1_1", "densenet121", "googlenet", "shufflenet_v2_x0_5", "mnasnet0_5", "swin_t"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision_load_without_a_name(tmp_path: Path, name: str) -> None:
    network = zoos.torchvision_model(name, num_classes=7, in_channels=4).eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "resnet18.pth")
    model = load(tmp_path / "resnet18.pth")
    assert model.origin.architecture == f"torchvision:{name}"
    assert (model.origin.num_classes, model.origin.input_size[0]) == (7, 4)
    x = torch.randn(1, 4, 64, 64)
    torch.testing.assert_close(model(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_told_from_their_absence(tmp_path: Path, name: str) -> None:
    for aux in (True, False):
        network = zoos.torchvision_model(name, num_classes=7, aux_logits=aux)
        torch.save(network.state_dict(), tmp_path / "m.pt")
        model = load(tmp_path / "m.pt")
        assert model.origin.architecture == f"torchvision:{name}"
        assert model.origin.arch_args == ({} if aux else {"aux_logits": False})


@pytest.mark.slow
def test_the_older_names_of_densenet(tmp_path: Path) -> None:
    state = zoos.torchvision_model("densenet121").state_dict()
    old = {k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for k, v in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "m.pt")
    assert load(tmp_path / "m.pt").origin.architecture == "torchvision:densenet121"


def test_without_batch_counters(tmp_path: Path) -> None:
    state = create("resnet20").state_dict()
    old = {key: value for key, value in state.items() if "num_batches" not in key}
    torch.save(old, tmp_path / "m.pt")
    model = load(tmp_path / "m.pt")
    assert model.bn1.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer2.1.bn1.weight": torch.ones(5)}, r"layer2\.1\.bn1\.weight has shape \(5,\), "
                                                 r"expected \(32,\)"),
        ({"layer2.1.bn1.weight": None}, r"layer2\.1\.bn1\.weight of shape \(32,\) is missing"),
        ({"more": torch.ones(2, 3)}, r"more of shape \(2, 3\) is unexpected"),
    ],
)  # fmt: skip
def test_no_fit_names_the_nearest_three_and_the_first_difference(tmp_path, change, message) -> None:
    state = create("resnet20").state_dict() | change
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "m.pt")
    nearest = "the nearest are condense:resnet20, condense:.*, condense:.*; for condense:resnet20"
    with pytest.raises(CheckpointError, match=f"{nearest}, {message}") as caught:
        load(tmp_path / "m.pt")
    assert "--arch" in str(caught.value.hint)
    with pytest.raises(CheckpointError, match=f"as condense:resnet20 does not fit.*: {message}"):
        load(tmp_path / "m.pt", arch="resnet20")


@pytest.mark.parametrize("arch", [None, "resnet20"])
def test_another_number_of_classes_than_expected(tmp_path: Path, arch) -> None:
    torch.save(create("resnet20", num_classes=6).state_dict(), tmp_path / "m.pt")
    assert load(tmp_path / "m.pt", arch=arch, num_classes=6).origin.num_classes == 6
    with pytest.raises(CheckpointError, match="has 6 classes in its weights, expected 100"):
        load(tmp_path / "m.pt", arch=arch, num_classes=100)


def test_alike_architectures_are_named(tmp_path: Path, monkeypatch, caplog) -> None:
    shapes = {"weight": (CLASSES, 3)}
    alike = tuple(Signature(architecture=name, shapes=shapes) for name in ("a", "b"))
    monkeypatch.setattr(matching, "table", lambda: alike)
    found = match({"weight": torch.zeros(2, 3)})
    assert found is not None
    assert found.signature.architecture == "a"
    assert "the weights fit a and b alike; taken as a" in caplog.text


def test_classes_have_to_agree_between_heads() -> None:
    expected = {"aux": (CLASSES, 4), "fc": (CLASSES, 4)}
    assert first_mismatch(expected, {"aux": (7, 4), "fc": (7, 4)}) is None
    found = first_mismatch(expected, {"aux": (7, 4), "fc": (8, 4)})
    assert found == "fc has shape (8, 4), expected (7, 4)"


def test_real_checkpoints(shared) -> None:
    model = load(shared / "checkpoints" / "resnet32-d509ac18.th")
    assert model.origin.architecture == "condense:resnet32"
    assert sum(p.numel() for p in model.parameters()) == 464_154
    assert model.origin.input_size == (3, 32, 32)
    assert model.origin.mean == (0.485, 0.456, 0.406)
    assert str(model.origin.sha256).startswith("d509ac18")


def test_a_real_checkpoint_renamed_and_shuffled(shared, tmp_path: Path) -> None:
    file = shared / "checkpoints" / "resnet20-12fca82f.th"
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    order = torch.randperm(len(state), generator=torch.Generator().manual_seed(0)).tolist()
    items = list(state.items())
    torch.save(dict(items[n] for n in order), tmp_path / "vgg.bin")
    model = load(tmp_path / "vgg.bin")
    assert model.origin.architecture == "condense:resnet20"
    torch.testing.assert_close(model.state_dict(), load(file).state_dict())


def test_real_weights_classify_real_images(shared) -> None:
    import numpy as np

    with np.load(shared / "data" / "cifar10.npz") as data:
        images, labels = data["test_images"][:200], torch.from_numpy(data["test_labels"][:200])
    model = load(shared / "checkpoints" / "resnet20-12fca82f.th")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.origin.mean, model.origin.std))
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        assert (model(x).argmax(1) == labels).float().mean() > 0.88


def test_weights_of_something_quite_different(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="fits no known architecture"):
        load(tmp_path / "m.pt")
