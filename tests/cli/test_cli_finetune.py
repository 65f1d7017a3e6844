"""`condense finetune`."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import condense as api

TINY = ("--epochs", "1", "--limit", "128", "--batch-size", "64")


def test_the_students_learn_and_the_original_is_shown_first(converted) -> None:
    result = converted("finetune", "--data", "digits", *TINY)
    assert result.exit_code == 0
    roles = [line.split()[0] for line in result.stdout.splitlines()]
    assert roles == ["original", "finetuned", "control_finetuned"]
    lines = result.stderr.splitlines()
    assert lines[0].startswith("original           9")
    assert lines[-1] == "next: condense report"
    assert any("images/s" in line for line in lines)
    run = Path("condense-run")
    for name in ("finetuned.pt", "control_finetuned.pt", "training/last.pt", "training/best.pt"):
        assert (run / name).exists()
    assert len((run / "training/metrics.jsonl").read_text().splitlines()) == 1
    assert json.loads((run / "run.json").read_text())["facts"] == {"data": "digits"}


def test_json_and_no_control(converted) -> None:
    words = ["--data", "digits", *TINY, "--no-control", "--json", "--quiet"]
    result = converted("finetune", *words)
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["schema"] == 1
    assert found["original"]["split"] == "test"
    (model,) = found["models"]
    assert model.keys() >= {"role", "best_epoch", "val_top1", "seconds", "accuracy"}
    assert model["accuracy"].keys() >= {"split", "top1", "n", "ci95"}
    assert not Path("condense-run/control_finetuned.pt").exists()


def test_nothing_is_trained_over_without_force(finished, hashes) -> None:
    before = hashes(Path("condense-run"))
    result = finished("finetune", *TINY)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "error: condense-run/finetuned.pt exists already\nhint: --force makes it again\n"
    )
    assert hashes(Path("condense-run")) == before


def test_again_with_force_gives_the_same_network(finished, hashes) -> None:
    before = hashes(Path("condense-run"))
    assert finished("finetune", *TINY, "--force").exit_code == 0
    after = hashes(Path("condense-run"))
    for name in ("finetuned.pt", "control_finetuned.pt"):
        assert after[name] == before[name]


def test_resuming_what_is_done_changes_nothing(finished, hashes) -> None:
    before = hashes(Path("condense-run"))
    assert finished("finetune", *TINY, "--resume").exit_code == 0
    after = hashes(Path("condense-run"))
    assert after["finetuned.pt"] == before["finetuned.pt"]


def test_resuming_with_another_recipe_is_refused(finished, hashes) -> None:
    before = hashes(Path("condense-run"))
    result = finished("finetune", *TINY, "--lr", "0.05", "--resume")
    assert result.exit_code == 3
    assert "lr was 0.1 and is 0.05" in result.stderr
    assert hashes(Path("condense-run")) == before


def test_another_original_as_teacher_and_none(converted) -> None:
    words = ["--data", "digits", *TINY, "--no-control", "-q"]
    assert converted("finetune", *words, "--teacher", "model.safetensors").exit_code == 0
    with_file = api.load("condense-run/finetuned.pt").state_dict()
    assert converted("finetune", *words, "--force").exit_code == 0
    alike = api.load("condense-run/finetuned.pt").state_dict()
    assert all(torch.equal(with_file[key], alike[key]) for key in alike)
    assert converted("finetune", *words, "--teacher", "none", "--force").exit_code == 0
    other = api.load("condense-run/finetuned.pt").state_dict()
    assert any(not torch.equal(other[key], alike[key]) for key in alike)


def test_a_student_of_ones_own(converted) -> None:
    Path("condense-run/converted.pt").rename("mine.pt")
    words = ["finetune", "mine.pt", "--data", "digits", *TINY, "-q"]
    result = converted(*words)
    assert result.exit_code == 0, result.stderr
    assert not Path("condense-run/control_finetuned.pt").exists()
    again = converted(*words, "--resume")
    assert again.exit_code == 0, again.stderr


def test_a_student_of_ones_own_needs_an_original_to_learn_from(converted, tmp_path: Path) -> None:
    words = ["--data", "digits", *TINY, "--run", "fresh"]
    result = converted("finetune", "condense-run/converted.pt", *words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "fresh has no original model yet" in result.stderr
    assert not (tmp_path / "fresh").exists()


def test_a_target_that_is_missed_is_4_and_keeps_the_network(converted) -> None:
    words = ["--data", "digits", "--epochs", "1", "--limit", "64", "--batch-size", "64"]
    result = converted("finetune", *words, "--lr", "1e-6", "--max-drop", "0.1", "--no-control")
    assert result.exit_code == 4
    assert "error: the held-out accuracy never came within 0.1 points" in result.stderr
    assert "hint: " in result.stderr
    assert Path("condense-run/finetuned.pt").exists()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ([], 2, "there is no data to learn from"),
        (["--data", "digitz"], 2, "no data set named 'digitz'"),
        (["--data", "nowhere.npz"], 3, "nowhere.npz does not exist"),
        (["--data", "digits", "--epochs", "0"], 2, "epochs must be at least 1"),
        (["--data", "digits", "--lr", "nan"], 2, "lr must be above 0"),
        (["--data", "digits", "--schedule", "steps"], 2, "schedule must be one of"),
        (["--data", "digits", "--teacher-weight", "2"], 2, "teacher_weight must be in"),
        (["--data", "digits", "--limit", "0"], 2, "limit must be at least 1"),
        (["--data", "digits", "--teacher", "nobody.pt"], 3, "nobody.pt does not exist"),
    ],
)
def test_what_cannot_be_trained(converted, hashes, words, code: int, complaint: str) -> None:
    before = hashes(Path("condense-run"))
    result = converted("finetune", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert f"error: {complaint}" in result.stderr
    del before["run.json"]
    assert before.items() <= hashes(Path("condense-run")).items()
    assert not Path("condense-run/training").exists()


def test_data_that_could_not_be_opened_is_not_remembered(converted) -> None:
    converted("finetune", "--data", "nowhere.npz")
    assert json.loads(Path("condense-run/run.json").read_text())["facts"] == {}


LONGER = ("--data", "digits", "--epochs", "3", "--batch-size", "32", "--lr", "0.02")


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "condense", "finetune", *LONGER, "--threads", "1", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped(process: subprocess.Popen[str], number: int, *, after: str) -> tuple[str, str]:
    """Wait until a line on stderr begins with `after`, send the signal, collect the rest."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if line.startswith(after):
            break
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    return out, seen + err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word", "after"),
    [
        (signal.SIGINT, 130, "interrupted", "converted: epoch 1"),
        (signal.SIGTERM, 143, "terminated", "converted: epoch 2"),
    ],
)
def test_a_stopped_training_resumes_to_the_same_bits(
    converted, tmp_path: Path, number: int, code: int, word: str, after: str
) -> None:
    torch.set_num_threads(1)
    assert converted("finetune", *LONGER, "--threads", "1", "-q").exit_code == 0
    run = Path("condense-run")
    whole = {name: (run / name).read_bytes() for name in ("finetuned.pt", "control_finetuned.pt")}
    for name in whole:
        (run / name).unlink()
    process = started("--force")
    out, err = stopped(process, number, after=after)
    assert (process.returncode, out) == (code, "")
    assert err.endswith(f"error: {word}\nhint: the same command with --resume goes on from there\n")
    assert "Traceback" not in err
    assert not (run / "finetuned.pt").exists()
    assert converted("finetune", *LONGER, "--threads", "1", "-q", "--resume").exit_code == 0
    assert {name: (run / name).read_bytes() for name in whole} == whole
