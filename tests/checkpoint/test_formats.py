"""Every format gives the same network; whatever is none of them says what it is."""

import io
import json
import logging
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from condense.checkpoint import load
from condense.checkpoint.states import readings, states_in
from condense.errors import CheckpointError
from condense.models import create


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    return create("resnet20", num_classes=6).eval()


def same(model: nn.Module, network: nn.Module) -> bool:
    mine, its = model.state_dict(), network.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in its)


NESTINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"epoch": 3, "model": state, "optimizer": {"state": {}}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": torch.tensor(0.1)},
    "net": lambda state: {"net": state, "acc": 91.2},
    "ema": lambda state: {"ema": state},
    "twice": lambda state: {"checkpoint": {"model": {"state_dict": state}}},
    "unknown key": lambda state: {"whatever": state, "config": {"lr": 0.1}},
    "scalars beside": lambda state: state | {"epoch": 3},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "both": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "lightning": lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
    "backbone": lambda state: {f"net.backbone.{key}": value for key, value in state.items()},
    "averaged": lambda state: {
        "n_averaged": torch.tensor(5),
        **{f"module.{key}": value for key, value in state.items()},
    },
    "inner parallel": lambda state: {
        key.replace("layer1.", "layer1.module."): value for key, value in state.items()
    },
}


@pytest.mark.parametrize("nesting", NESTINGS)
@pytest.mark.parametrize("arch", [None, "condense:resnet20"])
def test_nested_and_prefixed(tmp_path: Path, network: nn.Module, nesting: str, arch) -> None:
    path = tmp_path / "misleading_vgg16.bin"
    torch.save(NESTINGS[nesting](dict(network.state_dict())), path)
    model = load(path, arch=arch)
    assert same(model, network)
    assert (model.origin.architecture, model.origin.num_classes) == ("condense:resnet20", 6)


@given(st.data())
def test_order_and_prefixes_play_no_part(data: st.DataObject) -> None:
    keys = ["conv1.weight", "layer1.0.bn1.weight", "fc.weight", "fc.bias"]
    state = {key: torch.full((2,), float(n)) for n, key in enumerate(keys)}
    prefixes = data.draw(st.lists(st.sampled_from(["module.", "_orig_mod.", "model.", "a.b."])))
    shuffled = data.draw(st.permutations(keys))
    wrapped = {"".join(prefixes) + key: state[key] for key in shuffled}
    found = [reading for reading in readings(wrapped) if reading.keys() == state.keys()]
    assert found
    assert all(torch.equal(found[0][key], state[key]) for key in keys)


def test_legacy_file(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    assert same(load(tmp_path / "m.pth"), network)


def test_safetensors(tmp_path: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), tmp_path / "weights")
    assert same(load(tmp_path / "weights"), network)


@pytest.mark.parametrize("cut", [3, 200, -5])
def test_truncated_safetensors(tmp_path: Path, network: nn.Module, cut: int) -> None:
    path = tmp_path / "m.safetensors"
    save_file(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load(path)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, IMAGE)])
def test_weights_of_torchscript(tmp_path: Path, network: nn.Module, make) -> None:
    make(network).save(tmp_path / "m.pt")
    assert same(load(tmp_path / "m.pt"), network)


IMAGE = torch.zeros(1, 3, 8, 8)


def test_torchscript_without_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        for name in ("data", "constants"):
            archive.writestr(f"m/{name}.pkl", b"\x80\x02].")
    with pytest.raises(CheckpointError, match="TorchScript archive without weights"):
        load(tmp_path / "m.pt")


def test_weights_of_an_exported_program(tmp_path: Path, network: nn.Module) -> None:
    program = torch.export.export(network, (IMAGE,))
    torch.export.save(program, tmp_path / "m.pt2")
    assert same(load(tmp_path / "m.pt2"), network)


@pytest.mark.parametrize("name", ["serialized_state_dict.pt", "data/weights/model.pt"])
def test_weights_of_older_exported_programs(tmp_path: Path, network: nn.Module, name) -> None:
    buffer = io.BytesIO()
    torch.save(dict(network.state_dict()), buffer)
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/serialized_exported_program.json", "{}")
        archive.writestr(f"m/{name}", buffer.getvalue())
    assert same(load(tmp_path / "m.pt2"), network)


def test_exported_weights_that_are_pickled_or_empty(tmp_path: Path) -> None:
    from condense.checkpoint.archives import read_exported

    buffer = io.BytesIO()
    torch.save(torch.ones(2), buffer)
    meta = {"dtype": 7, "sizes": [{"as_int": 0}], "strides": [{"as_int": 1}]}
    config = {
        "a": {"path_name": "w0", "use_pickle": True},
        "b": {
            "path_name": "w1",
            "use_pickle": False,
            "tensor_meta": meta | {"storage_offset": {"as_int": 0}},
        },
    }
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/data/weights/model_weights_config.json", json.dumps({"config": config}))
        archive.writestr("m/data/weights/w0", buffer.getvalue())
        archive.writestr("m/data/weights/w1", b"")
    state = read_exported(tmp_path / "m.pt2")
    assert torch.equal(state["a"], torch.ones(2))
    assert state["b"].shape == (0,)


def test_an_exported_archive_without_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
    with pytest.raises(CheckpointError, match="whose weights are not where"):
        load(tmp_path / "m.pt2")


CONTENTS = {
    b"": "is empty",
    b"<!DOCTYPE html><html>": "is a web page",
    b"\n  <HTML>": "is a web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1": "git-lfs pointer",
    b"learning rate: 0.1\n": "is a text file",
    b"a" * 511 + "ö".encode(): "is a text file",  # cut in the middle of a character
    b"\x1f\x8b\x08\x00": "gzip-compressed",
    b"\x89HDF\r\n": "an HDF5 file",
    b"\x93NUMPY\x01": "a NumPy array",
    b"\x00\x01\x02\xff\xfe": "of no known format",
    b"PK\x03\x04 cut off": "cut off before its end",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": "cannot be read as torch.save's older format",
}


@pytest.mark.parametrize(("content", "message"), CONTENTS.items())
def test_other_files_are_called_what_they_are(tmp_path: Path, content, message: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")
    assert caught.value.hint


def test_truncated_zip(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "m.pt")
    (tmp_path / "m.pt").write_bytes((tmp_path / "m.pt").read_bytes()[:-3000])
    with pytest.raises(CheckpointError, match="cut off before its end"):
        load(tmp_path / "m.pt")


def test_damaged_zip(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "m.pt")
    content = bytearray((tmp_path / "m.pt").read_bytes())
    content[60:400] = b"\xff" * 340
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read as torch\.save's zip archive"):
        load(tmp_path / "m.pt")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("images.npy", b"")
    with pytest.raises(CheckpointError, match=r"without a data\.pkl") as caught:
        load(tmp_path / "data.npz")
    assert caught.value.hint == "a .npz file is data, not a model"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.pt does not exist"):
        load(tmp_path / "model.pt")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a directory, expected a file") as caught:
        load(tmp_path)
    assert caught.value.hint is None
    (tmp_path / "model.pt").touch()
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert "model.pt" in str(caught.value.hint)


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.symlink_to(path)
    with pytest.raises(CheckpointError, match="cannot be read: "):
        load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, network: nn.Module, value: float) -> None:
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for key in ("layer1.1.conv2.weight", "linear.bias"):
        state[key].view(-1)[:2] = value
    torch.save(state, tmp_path / "m.pt")
    message = r"layer1\.1\.conv2\.weight has 2 values of 2304 that are NaN or infinite"
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "m.pt", arch="resnet20")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_and_say_so(tmp_path, network, dtype, caplog) -> None:
    state = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()
    }
    torch.save(state, tmp_path / "m.pt")
    with caplog.at_level(logging.INFO):
        model = load(tmp_path / "m.pt")
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert f"weights in {str(dtype).removeprefix('torch.')} converted to float32" in caplog.text


def test_optimizer_only(tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1).state_dict()
    for content in (optimizer, {"optimizer": optimizer, "epoch": 1}):
        torch.save(content, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match="an optimizer's state and no weights"):
            load(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "holds no state_dict; its keys: epoch"),
        ({}, "holds no state_dict; its keys: none"),
        (torch.zeros(3), "holds a Tensor, expected a state_dict"),
        ([1, 2], "holds a list, expected a state_dict"),
    ],
)
def test_no_weights(tmp_path: Path, content, message: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "m.pt")


def test_the_known_key_comes_before_the_others() -> None:
    state = OrderedDict(weight=torch.zeros(1))
    content = {"teacher": state, "ema": state, "state_dict": state}
    assert [place for place, _ in states_in(content, "m.pt")] == ["state_dict", "ema", "teacher"]


def test_the_first_state_that_fits_is_taken(tmp_path: Path, network: nn.Module) -> None:
    content = {"state_dict": {"weight": torch.zeros(1)}, "ema": network.state_dict()}
    torch.save(content, tmp_path / "m.pt")
    assert same(load(tmp_path / "m.pt"), network)
    assert same(load(tmp_path / "m.pt", arch="resnet20"), network)
