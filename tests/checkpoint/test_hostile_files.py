"""Files that would run code are refused, and nothing of them is run."""

import argparse
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from condense.checkpoint import load, save
from condense.checkpoint.pickles import beyond_weights, imports
from condense.errors import CheckpointError, UntrustedFileError
from condense.models import create


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self):
        return os.system, (f"echo ran > {self.sentinel}",)


SYSTEM = f"{os.system.__module__}.system"


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def written(path: Path, content, how: str) -> Path:
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    return path


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_code_is_named_and_never_run(tmp_path: Path, sentinel: Path, how: str) -> None:
    content = {"state_dict": create("resnet20").state_dict(), "extra": Payload(sentinel)}
    path = written(tmp_path / "model.pt", content, how)
    with pytest.raises(UntrustedFileError, match=f"import and may call: .*{SYSTEM}") as caught:
        load(path)
    assert "--trust" in str(caught.value.hint)
    assert not sentinel.exists()


def test_the_payload_of_these_tests_does_run_when_trusted(tmp_path: Path, sentinel: Path) -> None:
    content = {"state_dict": create("resnet20").state_dict(), "extra": Payload(sentinel)}
    model = load(written(tmp_path / "model.pt", content, "zip"), trust=True)
    assert model.origin.architecture == "condense:resnet20"
    assert sentinel.exists()


def test_code_in_a_torchscript_archive_is_never_run(tmp_path: Path, sentinel: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/data.pkl", pickle.dumps(Payload(sentinel), protocol=2))
        archive.writestr("script/constants.pkl", pickle.dumps(()))
    with pytest.raises(CheckpointError, match=rf"TorchScript archive: .*{SYSTEM} has no place"):
        load(path)
    assert not sentinel.exists()


def test_code_among_the_weights_of_an_exported_archive_is_never_run(
    tmp_path: Path, sentinel: Path
) -> None:
    buffer = io.BytesIO()
    torch.save({"a": Payload(sentinel)}, buffer)
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/weights/model.pt", buffer.getvalue())
    with pytest.raises(CheckpointError, match=r"a \.pt2 archive"):
        load(path)
    assert not sentinel.exists()


def test_an_artefact_imports_no_code_that_was_not_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "intruder.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
        "from condense.models import create\ndef net(): return create('resnet20')\n"
    )
    path = tmp_path / "model.pt"
    save(create("resnet20"), path)
    content = torch.load(path, weights_only=True)
    content["origin"]["architecture"] = "intruder:net"
    torch.save(content, path)
    with pytest.raises(UntrustedFileError, match="intruder:net, which would be imported"):
        load(path)
    assert not (tmp_path / "ran").exists()
    load(path, trust=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (argparse.Namespace(lr=0.1), r"argparse\.Namespace"),
        (np.float64(92.5), r"multiarray\.scalar"),
        (nn.Conv2d(1, 1, 1), r"torch\.nn\.modules\.conv\.Conv2d"),
    ],
)
def test_common_companions_are_named_and_open_when_trusted(tmp_path, extra, name) -> None:
    content = {"state_dict": create("resnet20").state_dict(), "extra": extra}
    path = written(tmp_path / "model.pt", content, "zip")
    with pytest.raises(UntrustedFileError, match=name):
        load(path)
    assert load(path, trust=True).origin.architecture == "condense:resnet20"


def test_a_trusted_module_is_the_model_itself(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 5)).half()
    path = written(tmp_path / "model.pt", network, "zip")
    with pytest.raises(UntrustedFileError, match=r"torch\.nn\.modules\.container\.Sequential"):
        load(path)
    model = load(path, trust=True, input_size=(3, 3, 3))
    assert isinstance(model, nn.Sequential)
    assert not model.training
    assert model.origin.architecture == "torch.nn.modules.container:Sequential"
    assert (model.origin.num_classes, model.origin.input_size) == (5, (3, 3, 3))
    assert model[0].weight.dtype == torch.float32


def test_a_module_in_a_trusted_dict_is_found_and_unwrapped(tmp_path: Path) -> None:
    network = create("resnet20")
    content = {"loss": nn.CrossEntropyLoss(), "model": nn.DataParallel(network), "epoch": 3}
    model = load(written(tmp_path / "m.pt", content, "zip"), trust=True)
    assert isinstance(model, nn.Sequential)
    torch.testing.assert_close(model.state_dict(), network.state_dict())


def test_an_architecture_takes_the_weights_of_a_trusted_module(tmp_path: Path) -> None:
    path = written(tmp_path / "m.pt", create("resnet20", num_classes=4), "zip")
    model = load(path, trust=True, arch="resnet20")
    assert (model.origin.architecture, model.origin.num_classes) == ("condense:resnet20", 4)


def test_a_trusted_file_that_needs_what_is_not_here_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"\x80\x02cnot_installed_anywhere\nNet\n)R.")
    with pytest.raises(UntrustedFileError, match=r"call: not_installed_anywhere\.Net$"):
        load(path)
    with pytest.raises(CheckpointError, match="No module named 'not_installed_anywhere'"):
        load(path, trust=True)


def test_a_plain_pickle_without_code_is_no_checkpoint_but_opens_when_trusted(tmp_path) -> None:
    path = written(tmp_path / "m.pkl", {"a": 1}, "pickle")
    with pytest.raises(CheckpointError, match=r"is a plain pickle, not a file of torch\.save"):
        load(path)
    with pytest.raises(CheckpointError, match="holds no state_dict; its keys: a"):
        load(path, trust=True)


def test_long_lists_are_cut(tmp_path: Path) -> None:
    code = b"".join(b"cmod\nname%d\n" % n for n in range(20))
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x02" + code + b".")
    with pytest.raises(UntrustedFileError, match=r"mod\.name11 and 8 more"):
        load(path)


class Everything:
    def __reduce__(self):
        return eval, ("1",)


@given(protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), depth=st.integers(0, 4))
def test_every_protocol_gives_the_names(protocol: int, depth: int) -> None:
    content = [Everything(), Everything(), OrderedDict(a=1)]
    for _ in range(depth):
        content = {"x": (content, "y"), "z": content}
    names = imports(pickle.dumps(content, protocol))
    module = "__builtin__" if protocol < 3 else "builtins"
    assert set(names) == {f"{module}.eval", "collections.OrderedDict"}
    assert beyond_weights(names) == [f"{module}.eval"]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (b"(S'x'\nios\nsystem\n.", ["os.system"]),  # INST
        (b"\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.", ["os.system"]),  # through the memo
        (b"\x8c\x02osq\x05\x8c\x06systemr\x06\0\0\x0000h\x05j\x06\0\0\0\x93.", ["os.system"]),
        (b"\x8c\x02os\x8c\x06system2\x30\x93.", ["os.system"]),  # DUP and POP
        (b"(\x8c\x01a\x8c\x01b1\x8c\x02os\x8c\x06system\x93.", ["os.system"]),  # POP_MARK
        (b"K\x01K\x02\x93.", ["(computed).(computed)"]),
        (b"\x93.", ["(computed)"]),
        (b"\x82\x05.", ["copyreg extension 5"]),
        (b"00cos\nsystem\n.", ["os.system"]),  # an empty stack is popped
        (b"cos\nsystem\nnonsense", ["os.system"]),
        (b"no pickle", []),
    ],
)
def test_opcodes_by_hand(code: bytes, names: list[str]) -> None:
    assert imports(code) == names


@given(st.binary(max_size=200))
def test_the_reader_of_opcodes_survives_anything(data: bytes) -> None:
    assert isinstance(imports(data, pickles=3), list)


def test_what_loads_code_again_is_not_harmless() -> None:
    names = ["torch.storage._load_from_bytes", "torch.load", "torch.hub.load", "torch.FloatStorage"]
    assert beyond_weights(names) == names[:3]
