"""`condense train`: from a name and data to a run that the other commands go on from."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import condense as api

TINY = ("--epochs", "2", "--limit", "128", "--batch-size", "32")
DIGITS = ("train", "mnist10_global", "--data", "digits", "--input-size", "1x28x28", *TINY)
QUICK = ("--runtimes", "torch", "--repeats", "2")


def test_a_network_is_trained_and_the_next_commands_go_on(condense: Any) -> None:
    result = condense(*DIGITS)
    assert result.exit_code == 0, result.stderr
    first, second, third = result.stdout.splitlines()
    assert first.startswith("mnist10_global  ")
    assert first.endswith(" test images")
    assert second.startswith("best of 2 epochs: ")
    assert third.startswith("most confused, both ways together: ")
    assert result.stderr.splitlines()[-1] == "next: condense report"
    run = Path("condense-run")
    for name in ("trained.pt", "training/original/last.pt", "fields.svg", "run.json"):
        assert (run / name).exists(), name
    ElementTree.fromstring((run / "fields.svg").read_text())
    network = api.load(run / "trained.pt")
    assert network.origin.input_size == (1, 28, 28)
    report = condense("report", *QUICK, "--json")
    (model,) = json.loads(report.stdout)["models"]
    assert (model["role"], model["params"]) == ("original", 524)
    assert f"{100 * model['accuracy']['top1']:.1f} %" in first
    page = (run / "report.html").read_text()
    assert "What the Global layers of the original model do with a held-out image" in page
    exported = condense("export", "--json")
    assert json.loads(exported.stdout)["argmax_agreement"] == 1.0


def test_json_holds_the_confusions_and_the_recipe(condense: Any) -> None:
    result = condense(*DIGITS, "--json", "--quiet", "--no-augment", "--schedule", "cosine")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["schema"] == 1
    assert (found["architecture"], found["recipe"]) == ("mnist10_global", "mnist")
    assert (found["role"], found["file"]) == ("original", "trained.pt")
    assert found["options"]["epochs"] == 2
    assert (found["options"]["lr"], found["options"]["milestones"]) == (0.03, [])
    assert found["plateau"].keys() == {"epochs", "spread"}
    matrix = torch.tensor(found["confusions"]["matrix"])
    assert matrix.shape == (10, 10)
    assert int(matrix.sum()) == found["accuracy"]["n"]
    assert float(matrix.trace() / matrix.sum()) == pytest.approx(found["accuracy"]["top1"])
    pair = found["confusions"]["pairs"][0]
    one, other = (found["confusions"]["classes"].index(name) for name in pair["classes"])
    assert pair["count"] == int(matrix[one, other] + matrix[other, one])
    recorded = json.loads(Path("condense-run/run.json").read_text())["artefacts"]["original"]
    assert recorded["trained"]["accuracy"] == found["accuracy"]
    assert recorded["trained"]["seed"] == 0


def test_nothing_is_trained_over_without_force(condense: Any, hashes: Any) -> None:
    assert condense(*DIGITS).exit_code == 0
    before = hashes(Path("condense-run"))
    again = condense(*DIGITS)
    assert (again.exit_code, again.stdout) == (3, "")
    assert "condense-run/trained.pt exists already\nhint: --force makes it again" in again.stderr
    assert hashes(Path("condense-run")) == before
    assert condense(*DIGITS, "--force").exit_code == 0
    after = hashes(Path("condense-run"))
    assert after["trained.pt"] == before["trained.pt"], "the same seed, the same network"
    assert condense(*DIGITS, "--force", "--seed", "1").exit_code == 0
    assert hashes(Path("condense-run"))["trained.pt"] != before["trained.pt"]


def test_another_model_of_the_run_is_kept(converted: Any) -> None:
    result = converted(*DIGITS)
    assert result.exit_code == 3
    assert "condense-run is about another model, model.safetensors" in result.stderr
    assert not Path("condense-run/trained.pt").exists()
    assert converted(*DIGITS, "--force").exit_code == 0
    report = converted("report", *QUICK)
    assert "converted is left out: original was made again since" in report.stderr + report.stdout


@pytest.mark.slow
def test_a_trained_network_can_be_condensed(condense: Any) -> None:
    arguments = ("train", "resnet_digits", "--data", "digits", "--recipe", "mnist", *TINY)
    assert condense(*arguments).exit_code == 0
    assert not Path("condense-run/fields.svg").exists(), "there is no Global layer to draw"
    assert condense("convert").exit_code == 0
    assert condense("finetune", *TINY, "--no-control").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "complaint", "hint"),
    [
        (["mnist10_globl"], 2, "there are: darts, ", "did you mean 'mnist10_global'?"),
        (["resnet20", "--recipe", "global"], 2, "no recipe named 'global'", "global-cifar"),
        (["resnet20", "--recipe", "darts"], 2, "no DARTS cells", "take another recipe"),
        (["resnet20", "--epochs", "0"], 2, "epochs must be at least 1, got 0", ""),
        (["resnet20", "--schedule", "poly"], 2, "schedule must be one of", ""),
        (["resnet20", "--arch-arg", "depth=3"], 2, "has no option 'depth'", ""),
        (
            ["mnist10_global", "--input-size", "1x8x8"],
            2,
            "takes no images of 1x8x8",
            "--input-size",
        ),
        (["resnet20", "--num-classes", "4"], 3, "the model has 4 classes", ""),
        (["nowhere.at_all:net"], 3, "cannot be imported", ""),
    ],
)
def test_mistakes_are_told(
    words: list[str], code: int, complaint: str, hint: str, condense: Any
) -> None:
    result = condense("train", *words, "--data", "digits")
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr
    assert hint in result.stderr
    assert not Path("condense-run/trained.pt").exists()


def test_data_must_be_named_and_exist(condense: Any) -> None:
    result = condense("train", "resnet20")
    assert result.exit_code == 2
    assert "there is no data to learn from\nhint: --data" in result.stderr
    result = condense("train", "resnet20", "--data", "nowhere.npz")
    assert result.exit_code == 3
    assert "nowhere.npz does not exist" in result.stderr


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_was_not(condense: Any) -> None:
    words = [*DIGITS, "--epochs", "30"]
    assert condense(*words, "--run", "whole").exit_code == 0
    command = [sys.executable, "-m", "condense", *words, "--run", "killed", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 3 " in line:
                break
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not Path("killed/trained.pt").exists()
    result = condense(*words, "--run", "killed", "--resume")
    assert result.exit_code == 0, result.stderr
    one, other = (api.load(Path(run) / "trained.pt") for run in ("whole", "killed"))
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), atol=0, rtol=0)
    again = condense(*words, "--run", "killed", "--resume")
    assert again.exit_code == 0, "what is finished resumes to its result"
