"""The command line in this process, and a small run to start from."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from condense.cli.app import app
from condense.models.digits import WEIGHTS

TINY = ("--epochs", "1", "--limit", "128", "--batch-size", "64")
QUICK = ("--runtimes", "torch", "--repeats", "2")

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def condense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in an empty folder that holds the pretrained digits network."""
    shutil.copyfile(WEIGHTS, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return invoke


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    shutil.copyfile(WEIGHTS, folder / "model.safetensors")
    steps = [
        ["analyze", "model.safetensors", "--no-latency"],
        ["convert"],
        ["finetune", "--data", "digits", *TINY],
        ["export"],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for step in steps:
            result = invoke(*step)
            assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def finished(_made: Path, condense: Command, tmp_path: Path) -> Command:
    """A run after analyze, convert, finetune and export, in the current folder."""
    shutil.copytree(_made / "condense-run", tmp_path / "condense-run")
    return condense


@pytest.fixture
def converted(_made: Path, condense: Command, tmp_path: Path) -> Command:
    """A run after analyze and convert."""
    folder = shutil.copytree(_made / "condense-run", tmp_path / "condense-run")
    shutil.rmtree(folder / "training")
    manifest = json.loads((folder / "run.json").read_text())
    manifest["facts"] = {}
    for role in ("finetuned", "control_finetuned", "onnx"):
        (folder / manifest["artefacts"].pop(role)["file"]).unlink()
    (folder / "run.json").write_text(json.dumps(manifest))
    return condense


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder and its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(name="hashes")
def _hashes() -> Callable[[Path], dict[str, str]]:
    return hashes
