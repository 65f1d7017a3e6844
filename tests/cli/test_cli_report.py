"""`condense report`."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

QUICK = ("--runtimes", "torch", "--repeats", "2")
ROLES = ["original", "converted", "control", "finetuned", "control_finetuned"]
MODEL_KEYS = {
    "role",
    "params",
    "macs",
    "macs_paper",
    "macs_thop",
    "elementwise_ops",
    "depth_blocks",
    "depth_layers",
    "latency",
    "accuracy",
    "file_bytes",
}
LATENCY_KEYS = {"median_ms", "iqr_ms", "batch_size", "threads", "device", "dtype"}


def reported(condense, *words: str) -> dict:
    result = condense("report", *QUICK, "--json", *words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def opened(condense):
    """A run that holds nothing but its original."""
    assert condense("analyze", "model.safetensors", "--no-latency").exit_code == 0
    return condense


def test_a_finished_run_has_all_five_and_the_designs_keys(finished) -> None:
    found = reported(finished)
    assert found["schema"] == 1
    assert [model["role"] for model in found["models"]] == ROLES
    for model in found["models"]:
        assert model.keys() >= MODEL_KEYS
        assert [record["batch_size"] for record in model["latency"]["torch"]] == [1, 64]
        assert all(record.keys() >= LATENCY_KEYS for record in model["latency"]["torch"])
        assert model["accuracy"].keys() >= {"split", "top1", "n", "ci95"}
        assert model["accuracy"]["n"] == 400
    assert found["models"][0]["accuracy"]["top1"] > 0.9
    assert found["models"][0]["file_bytes"] == Path("model.safetensors").stat().st_size
    assert found["environment"]["torch"]
    saved = json.loads(Path("condense-run/report.json").read_text())
    assert saved == found
    assert Path("condense-run/report.html").read_text().startswith("<!")


def test_both_runtimes_on_request(opened) -> None:
    words = ["--runtimes", "torch,onnxruntime", "--repeats", "2", "--json"]
    found = json.loads(opened("report", *words).stdout)
    assert found["models"][0]["latency"].keys() == {"torch", "onnxruntime"}


def test_right_after_convert_without_data(converted) -> None:
    found = reported(converted)
    assert [model["role"] for model in found["models"]] == ROLES[:3]
    assert all(model["accuracy"] is None for model in found["models"])


def test_the_table_says_what_matters_and_nothing_twice(finished) -> None:
    result = finished("report", *QUICK)
    assert result.exit_code == 0
    assert "finetuned against original" in result.stdout
    assert "finetuned against control_finetuned" in result.stdout
    assert "control against original" not in result.stdout
    assert "converted against" not in result.stdout
    assert result.stderr == "next: condense report -o report.html\n"


def test_the_table_of_a_converted_run(converted) -> None:
    result = converted("report", *QUICK)
    assert "converted against original" in result.stdout
    assert "converted against control" in result.stdout
    assert result.stderr == "next: condense export\n"


def test_again_needs_no_force(opened) -> None:
    assert opened("report", *QUICK).exit_code == 0
    assert opened("report", *QUICK).exit_code == 0


@pytest.mark.parametrize("form", ["csv", "md", "html", "json"])
def test_every_form_on_stdout_and_into_a_file(opened, form: str) -> None:
    result = opened("report", *QUICK, "--format", form)
    assert result.exit_code == 0
    target = Path(f"out/r.{form}")
    assert opened("report", *QUICK, "-o", target).exit_code == 0
    text = target.read_text()
    for content in (result.stdout, text):
        if form == "json":
            assert json.loads(content)["models"]
        elif form == "csv":
            (row,) = csv.DictReader(io.StringIO(content))
            assert row["params"] == "112058"
        elif form == "md":
            assert "| params | 112,058 |" in content
        else:
            assert content.lstrip().startswith("<!")
    assert "\x1b" not in result.stdout
    refused = opened("report", *QUICK, "-o", target)
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert refused.stderr == f"error: {target} exists already\nhint: --force overwrites it\n"
    assert target.read_text() == text
    assert opened("report", *QUICK, "-o", target, "--force").exit_code == 0


def test_a_file_whose_name_says_nothing(opened) -> None:
    result = opened("report", *QUICK, "-o", "report.pdf")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "report.pdf does not say what to write" in result.stderr
    assert not Path("report.pdf").exists()


def test_two_formats_at_once_exclude_each_other(opened) -> None:
    result = opened("report", "--json", "--format", "md")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--json and --format md exclude each other" in result.stderr


def test_several_runs_each_with_data_of_its_own(finished) -> None:
    shutil.copytree("condense-run", "second")
    manifest = json.loads(Path("second/run.json").read_text())
    manifest["facts"] = {}
    Path("second/run.json").write_text(json.dumps(manifest))
    result = finished("report", "condense-run", "second", *QUICK, "--json")
    first, second = json.loads(result.stdout)["reports"]
    assert first["models"][0]["accuracy"]["n"] == 400
    assert second["models"][0]["accuracy"] is None


def test_converted_again_an_older_finetuned_model_leaves_the_report(finished) -> None:
    assert finished("convert", "--keep", "2", "--force").exit_code == 0
    result = finished("report", *QUICK, "--json")
    found = json.loads(result.stdout)
    assert [model["role"] for model in found["models"]] == ROLES[:3]
    for role, source in (
        ("finetuned", "converted"),
        ("control_finetuned", "control"),
        ("onnx", "its finetuned no longer fits: converted"),
    ):
        assert f"warning: {role} is left out: {source} was made again since\n" in result.stderr
        assert f"{role} is left out: {source} was made again since" in found["warnings"]


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_harmed_artefact_is_named_and_left_out(finished, harm: str) -> None:
    path = Path("condense-run/control_finetuned.pt")
    path.write_bytes(b"x") if harm == "changed" else path.unlink()
    why = "was changed since" if harm == "changed" else "is missing"
    found = reported(finished)
    assert [model["role"] for model in found["models"]] == ROLES[:4]
    assert f"control_finetuned is left out: control_finetuned.pt {why}" in found["warnings"]


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_without_its_original_a_run_is_nothing(finished, harm: str) -> None:
    path = Path("model.safetensors")
    path.write_bytes(b"x") if harm == "changed" else path.unlink()
    result = finished("report", *QUICK)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "the original model of condense-run no longer fits" in result.stderr
    assert "hint: make it again with: condense analyze MODEL\n" in result.stderr


def test_recheck_compares_and_does_not_save(opened, hashes) -> None:
    refused = opened("report", *QUICK, "--recheck")
    assert refused.exit_code == 3
    assert "report.json is not a report to compare with" in refused.stderr
    assert opened("report", *QUICK).exit_code == 0
    before = hashes(Path("condense-run"))
    result = opened("report", *QUICK, "--recheck")
    assert result.exit_code == 0
    assert "original, torch, batch 64: " in result.stdout
    assert reported(opened, "--recheck")["recheck"]
    assert hashes(Path("condense-run")) == before


def test_recheck_finds_a_count_that_differs(opened) -> None:
    assert opened("report", *QUICK).exit_code == 0
    path = Path("condense-run/report.json")
    path.write_text(path.read_text().replace('"params": 112058', '"params": 112059'))
    result = opened("report", *QUICK, "--recheck")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "original params 112059 became 112058" in result.stderr


@pytest.mark.parametrize("content", ["", "{", "[]", '{"models": 3}', '{"schema": 1}'])
def test_recheck_against_something_else(opened, content: str) -> None:
    Path("condense-run/report.json").write_text(content)
    result = opened("report", *QUICK, "--recheck")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "is not a report to compare with" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--runtimes", "tensorrt"], 2, "tensorrt"),
        (["--data", "nowhere.npz"], 3, "nowhere.npz does not exist"),
        (["no-such-run"], 3, "no-such-run holds no model yet"),
    ],
)
def test_what_cannot_be_reported(opened, words, code: int, complaint: str) -> None:
    result = opened("report", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr
    assert not Path("no-such-run").exists()
    assert not Path("condense-run/report.json").exists()


def test_data_given_once_is_remembered(opened) -> None:
    assert reported(opened, "--data", "digits")["models"][0]["accuracy"]["n"] == 400
    assert reported(opened)["models"][0]["accuracy"]["n"] == 400
