"""Input that cannot be used: one clear sentence, an exit code, and nothing on disk is harmed."""

import os
import pickle
import re
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from condense.models import create


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("echo ran > ran",)


def state() -> OrderedDict[str, torch.Tensor]:
    return create("resnet20", num_classes=10).state_dict()


def changed(**entries: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """A state_dict of ResNet-20 with some entries replaced, or left out."""
    whole = dict(state()) | {key.replace("__", "."): value for key, value in entries.items()}
    return {key: value for key, value in whole.items() if value is not None}


def saved(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def truncated(path: Path) -> None:
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_nan() -> dict[str, torch.Tensor]:
    weight = state()["linear.weight"].clone()
    weight[3, 5] = float("nan")
    return changed(linear__weight=weight)


MODELS = {
    "missing": (lambda _: None, "model.pt does not exist"),
    "directory": (Path.mkdir, "model.pt is a directory"),
    "empty": (Path.touch, "model.pt is empty"),
    "truncated": (truncated, "model.pt .*cut off|model.pt cannot be read"),
    "text": (lambda path: path.write_text("hello\n" * 50), "model.pt is .*text"),
    "pickle with code": (
        lambda path: path.write_bytes(pickle.dumps({"state_dict": {}, "x": Payload()})),
        "model.pt holds more than weights; .*system",
    ),
    "zip with code": (saved({"state_dict": state(), "x": Payload()}), "holds more than weights"),
    "no architecture": (
        saved({f"features.{i}.weight": torch.zeros(3, 3, 3, 3) for i in range(9)}),
        "fits? no .*architecture|nearest",
    ),
    "not tensors": (saved({"epoch": 3}), "model.pt"),
    "a list": (saved([1, 2]), "model.pt"),
    "a tensor": (saved(torch.zeros(3)), "model.pt"),
    "NaN": (saved(with_nan()), "linear.weight .*NaN"),
    "a missing key": (saved(changed(bn1__weight=None)), "bn1.weight"),
}


def assert_refused(result, complaint: str, codes: tuple[int, ...] = (3,)) -> None:
    """One sentence and at most one hint, on stderr alone."""
    assert result.exit_code in codes, result.stderr
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert errors[0].startswith("error: ")
    assert len(errors) <= 2
    assert all(line.startswith("hint: ") for line in errors[1:])
    assert "Traceback" not in result.stderr
    assert re.search(complaint, errors[0]), errors[0]


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_that_is_no_model(condense, hashes, kind: str) -> None:
    write, complaint = MODELS[kind]
    write(Path("model.pt"))
    before = hashes(Path())
    assert_refused(condense("analyze", "model.pt", "--no-latency"), complaint)
    assert hashes(Path()) == before
    assert not Path("ran").exists()
    assert not Path("condense-run").exists()


def test_what_fits_nothing_is_told_the_three_nearest_and_the_first_key(condense) -> None:
    torch.save(changed(bn1__weight=None), "model.pt")
    result = condense("analyze", "model.pt")
    text = result.stderr
    assert text.count("condense:resnet") >= 3
    assert "bn1.weight" in text
    assert "hint: " in text


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "zip with code"])
def test_an_opened_run_survives_a_bad_model(finished, hashes, kind: str) -> None:
    MODELS[kind][0](Path("model.pt"))
    before = hashes(Path("condense-run"))
    result = finished("analyze", "model.pt", "--force")
    assert_refused(result, MODELS[kind][1])
    assert hashes(Path("condense-run")) == before


def test_the_code_runs_only_if_it_is_trusted(condense) -> None:
    torch.save({"state_dict": state(), "x": Payload()}, "model.pt")
    result = condense("analyze", "model.pt", "--no-latency", "--trust")
    assert result.exit_code == 0, result.stderr
    assert Path("ran").exists()


@pytest.mark.parametrize(
    ("words", "complaint", "codes"),
    [
        (["--num-classes", "100"], "10 classes|100", (2, 3)),
        (["--input-size", "1x32x32"], "1x32x32|channels|takes", (2, 3)),
        (["--input-size", "3x0x32"], "--input-size is '3x0x32'", (2,)),
        (["--arch", "condense:resnet32"], "layer1.3|model.pt", (3,)),
        (["--arch", "condense:resnet21"], "resnet21", (2,)),
        (["--arch", "torchvision:resnet19"], "resnet19", (2,)),
        (["--arch", "nothing.like:this"], "nothing", (2, 3)),
        (["--arch", "zoo:resnet20"], "zoo", (2, 3)),
        (["--arch", "condense:resnet20", "--arch-arg", "depth=3"], "depth", (2, 3)),
        (["--mean", "1,2"], "mean", (2, 3)),
        (["--std", "0,0,0"], "std", (2, 3)),
    ],
)
def test_a_model_that_is_not_what_was_said(condense, hashes, words, complaint, codes) -> None:
    torch.save(state(), "model.pt")
    before = hashes(Path())
    result = condense("analyze", "model.pt", "--no-latency", *words)
    assert_refused(result, complaint, codes)
    assert hashes(Path()) == before


def test_an_input_size_that_the_network_cannot_take(condense) -> None:
    result = condense("analyze", "torchvision:alexnet", "--no-latency", "--input-size", "3x8x8")
    assert_refused(result, "3x8x8|8, 8", (2, 3))


def test_a_model_without_repeats(condense) -> None:
    result = condense("convert", "torchvision:alexnet")
    assert_refused(result, "no repeats|no stage can be converted")
    assert not Path("condense-run/plan.json").exists()


def arrays(**changes: object) -> dict[str, object]:
    draw = np.random.default_rng(0)
    whole = {
        "train_images": draw.integers(0, 256, (60, 8, 8), dtype=np.uint8),
        "train_labels": np.arange(60) % 10,
        "test_images": draw.integers(0, 256, (30, 8, 8), dtype=np.uint8),
        "test_labels": np.arange(30) % 10,
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


OBJECTS = np.array([np.zeros((8, 8)), None], dtype=object)
DATA = {
    "wrong shape": ({"train_images": np.zeros((60, 8), np.uint8)}, "have shape"),
    "channels first": ({"train_images": np.zeros((60, 3, 8, 8), np.uint8)}, "have shape"),
    "five channels": ({"train_images": np.zeros((60, 8, 8, 5), np.uint8)}, "have shape"),
    "labels out of range": ({"train_labels": np.arange(60)}, "labels .*go up to 59, .*10 classes"),
    "negative labels": ({"train_labels": np.arange(60) - 1}, "go down to -1"),
    "objects": ({"train_images": OBJECTS}, "holds Python objects"),
    "float64": ({"train_images": np.zeros((60, 8, 8))}, "have dtype float64"),
    "NaN": ({"train_images": np.full((60, 8, 8), np.nan)}, "with NaN or infinity"),
    "too few labels": ({"train_labels": np.arange(9)}, "60 images, .*9 labels"),
    "no labels": ({"train_labels": None}, "no train_labels"),
    "no test": ({"test_images": None, "test_labels": None}, "expected train_images"),
    "one class": ({"train_labels": np.zeros(60, np.int64)}, "all of class 0"),
    "float labels": ({"train_labels": np.arange(60) / 2}, "have dtype float64"),
    "no images": ({"test_images": np.zeros((0, 8, 8), np.uint8)}, "0 images|empty|30 labels"),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_that_cannot_be_used(converted, hashes, kind: str) -> None:
    changes, complaint = DATA[kind]
    np.savez("data.npz", **arrays(**changes))
    before = hashes(Path())
    result = converted("finetune", "--data", "data.npz", "--epochs", "1")
    assert_refused(result, complaint)
    assert hashes(Path()) == before


def cut_in_half(path: Path) -> None:
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (Path.touch, "is empty"),
        (cut_in_half, "is cut off|cannot be read"),
        (lambda path: path.write_text("a,b,c\n"), "is not an .npz file"),
        (Path.mkdir, "data.npz"),
    ],
)
def test_a_data_file_that_is_none(converted, hashes, write, complaint: str) -> None:
    write(Path("data.npz"))
    before = hashes(Path())
    assert_refused(converted("finetune", "--data", "data.npz", "--epochs", "1"), complaint)
    assert hashes(Path()) == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"schema": 99, "facts": {}, "artefacts": {}}',
        '{"schema": 1, "facts": {}, "artefacts": {"original": {}}}',
        '{"schema": 1, "facts": {}, "artefacts": {"original": {"file": 3}}}',
        '{"schema": 1, "facts": [], "artefacts": {}}',
    ],
)
@pytest.mark.parametrize("name", ["analyze", "convert", "finetune", "report", "export"])
def test_a_corrupt_manifest(condense, hashes, content: str, name: str) -> None:
    Path("condense-run").mkdir()
    Path("condense-run/run.json").write_text(content)
    before = hashes(Path())
    words = {"analyze": ["model.safetensors", "--no-latency"], "finetune": ["--data", "digits"]}
    result = condense(name, *words.get(name, []))
    assert_refused(result, "run.json is not a run's manifest of schema 1")
    assert hashes(Path()) == before


def test_a_run_folder_that_is_a_file(condense, hashes) -> None:
    before = hashes(Path())
    result = condense("analyze", "model.safetensors", "--no-latency", "--run", "model.safetensors")
    assert_refused(result, "model.safetensors")
    assert hashes(Path()) == before


@pytest.mark.parametrize("harm", ["empty", "swapped"])
def test_a_harmed_artefact_is_not_used(converted, harm: str) -> None:
    path = Path("condense-run/converted.pt")
    path.write_bytes(b"" if harm == "empty" else Path("condense-run/control.pt").read_bytes())
    result = converted("finetune", "--data", "digits", "--epochs", "1")
    assert_refused(result, "converted model of condense-run no longer fits: .*was changed since")


def test_a_harmed_training_state_is_not_used(finished, hashes) -> None:
    Path("condense-run/training/last.pt").write_bytes(b"PK")
    before = hashes(Path())
    words = ["--epochs", "1", "--limit", "128", "--batch-size", "64", "--resume", "-q"]
    assert_refused(finished("finetune", *words), "last.pt")
    assert hashes(Path()) == before


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one conversion only; it can be made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not is_mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)):
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def is_mounted(*words: str) -> bool:
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def fill(path: Path) -> None:
    try:
        with path.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
    except OSError:
        return


def test_no_space_left_on_a_real_disk(condense, hashes, tiny_disk: Path) -> None:
    run = ["--run", str(tiny_disk), "-q"]
    first = condense("convert", "model.safetensors", "--stages", "layer1", *run)
    assert first.exit_code == 0, first.stderr
    before = hashes(tiny_disk)
    fill(tiny_disk / "filler")
    result = condense("convert", "--stages", "all", *run, "--force")
    assert_refused(result, "cannot be written: No space left on device")
    assert "hint: free some space" in result.stderr
    (tiny_disk / "filler").unlink()
    assert hashes(tiny_disk) == before


def test_a_disk_that_must_not_be_written(condense, tiny_disk: Path) -> None:
    if not is_mounted("-o", "remount,ro", str(tiny_disk)):
        pytest.skip("a disk cannot be made read-only here")
    run = ["--run", str(tiny_disk / "run")]
    result = condense("analyze", "model.safetensors", "--no-latency", *run)
    assert_refused(result, "run.json cannot be written: Read-only file system")
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "--force", "--keep", "2"],
        ["finetune", "--force", "--epochs", "1", "--limit", "64", "--batch-size", "64"],
        ["export", "--force"],
        ["analyze", "model.safetensors", "--no-latency"],
        ["report", "--runtimes", "torch", "--repeats", "2"],
    ],
    ids=lambda words: words[0],
)
def test_no_space_left_leaves_every_file_as_it_was(finished, hashes, monkeypatch, words) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = hashes(Path())
    monkeypatch.setattr("os.fsync", full)
    assert_refused(finished(*words), "cannot be written: No space left on device")
    assert hashes(Path()) == before
