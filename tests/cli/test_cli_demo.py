"""`condense demo`: the whole way, with a report at its end."""

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_leaves_a_whole_run(condense) -> None:
    result = condense("demo", "--epochs", "1")
    assert result.exit_code == 0, result.stderr
    folder = Path("condense-demo")
    for name in ("run.json", "plan.json", "finetuned.pt", "model.onnx", "report.html"):
        assert (folder / name).exists()
    roles = [model["role"] for model in json.loads((folder / "report.json").read_text())["models"]]
    assert roles == ["original", "converted", "control", "finetuned", "control_finetuned"]
    for word in ("layer1: convertible", "dynamic batch, checked", "finetuned against original"):
        assert word in result.stdout
    assert "$ condense finetune --data digits --epochs 1" in result.stderr
    assert result.stderr.endswith("next: condense analyze MODEL\n")
    refused = condense("demo")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert refused.stderr == (
        "error: condense-demo exists already\nhint: --force makes the demo again\n"
    )


@pytest.mark.slow
def test_the_demo_as_json_is_its_report(condense) -> None:
    result = condense("demo", "--epochs", "1", "--json", "--quiet", "--seed", "1", "--run", "d")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["schema"] == 1
    assert found["models"][0]["accuracy"]["top1"] > 0.9


def test_a_folder_that_is_no_demo_is_never_removed(condense, hashes) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    result = condense("demo", "--run", "mine", "--force")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "mine is not an earlier demo" in result.stderr
    assert Path("mine/thesis.txt").read_text() == "precious"


def test_no_epochs_are_no_demo(condense) -> None:
    assert condense("demo", "--epochs", "0").exit_code == 2
    assert not Path("condense-demo").exists()
