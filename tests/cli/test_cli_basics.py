"""What every command has in common: help, version, streams, exit codes."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

COMMANDS = ("analyze", "convert", "finetune", "report", "export", "train", "demo", "env")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_version_is_the_distributions(condense) -> None:
    result = condense("--version")
    expected = f"condense {version('condense-cnn')}\n"
    assert (result.exit_code, result.stdout, result.stderr) == (0, expected, "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_command(condense, option: str) -> None:
    result = condense(option)
    assert (result.exit_code, result.stderr) == (0, "")
    for name in COMMANDS:
        assert name in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_shared_options(condense, name: str) -> None:
    result = condense(name, "-h")
    assert (result.exit_code, result.stderr) == (0, "")
    for option in ("--run", "--json", "--quiet", "--verbose", "--device", "--threads", "--seed"):
        assert option in result.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["analise"], "No such command 'analise'"),
        (["analyze", "m.pt", "--nonsense"], "No such option: --nonsense"),
        (["analyze"], "Missing argument 'MODEL'"),
        (["convert", "--keep", "x"], "Invalid value for '--keep'"),
        (["convert", "--keep", "0"], "Invalid value for '--keep'"),
        (["env", "--seed", "-1"], "Invalid value for '--seed'"),
        (["env", "--seed", str(2**63)], "Invalid value for '--seed'"),
        (["report", "--format", "pdf"], "not one of"),
    ],
)
def test_wrong_usage_is_2(condense, words: list[str], complaint: str) -> None:
    result = condense(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in " ".join(result.stderr.replace("│", " ").split())
    assert not Path("condense-run").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--input-size", "32"], "--input-size is '32', expected CxHxW"),
        (["--arch-arg", "depth"], "--arch-arg is 'depth', expected KEY=VALUE"),
        (["--mean", "a,b"], "--mean is 'a,b', expected numbers"),
        (["--normalization", "imagnet"], "no normalization named 'imagnet'"),
        (["--device", "toaster"], "there is no device 'toaster' here"),
    ],
)
def test_an_option_with_a_wrong_value_is_2(condense, words: list[str], complaint: str) -> None:
    result = condense("convert", "model.safetensors", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert result.stderr.startswith("error: ")


def test_env_in_both_forms(condense) -> None:
    shown = condense("env")
    assert "torch" in shown.stdout
    assert (shown.exit_code, shown.stderr) == (0, "next: condense analyze MODEL\n")
    result = condense("env", "--json", "--quiet")
    found = json.loads(result.stdout)
    assert (found["schema"], result.stderr) == (1, "")
    assert {"torch", "cpu", "cores", "python"} <= found.keys()


def test_a_fault_of_ours_is_not_swallowed(condense, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("condense.measurement.environment", broken)
    with pytest.raises(ZeroDivisionError):
        condense("env")


@pytest.mark.parametrize(
    "problem",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
    ids=["python", "torch"],
)
def test_too_little_memory_is_3(condense, monkeypatch: pytest.MonkeyPatch, problem) -> None:
    def broken() -> None:
        raise problem

    monkeypatch.setattr("condense.measurement.environment", broken)
    result = condense("env")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "error: not enough memory\nhint: try a smaller --batch-size\n"


def test_an_unforeseen_disk_error_is_3(condense, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermissionError(13, "Permission denied", "secret")

    monkeypatch.setattr("condense.measurement.environment", broken)
    result = condense("env")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("error: secret: Permission denied\nhint: ")


def test_threads_are_set(condense) -> None:
    import torch

    assert condense("env", "--threads", "1").exit_code == 0
    assert torch.get_num_threads() == 1


def test_help_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from condense.cli.app import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "loaded = {'torch', 'torchvision', 'numpy', 'onnx'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    start = time.perf_counter()
    result = python(code)
    assert (result.returncode, result.stderr) == (0, "")
    assert time.perf_counter() - start < 5  # far more than the design allows: the machine is shared


def test_import_loads_no_torch_and_has_every_public_name() -> None:
    code = (
        "import sys, condense\n"
        "assert 'torch' not in sys.modules\n"
        "for name in dir(condense):\n    getattr(condense, name)\n"
        "assert callable(condense.analyze) and 'torch' in sys.modules"
    )
    result = python(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import condense as package

    with pytest.raises(AttributeError, match="no attribute 'analise'"):
        package.analise  # noqa: B018


def test_output_survives_a_terminal_without_unicode(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "condense",
        "analyze",
        "condense:resnet_digits",
        "--no-latency",
    ]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "layer1: convertible" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
