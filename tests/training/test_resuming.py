"""A training that was killed and resumed ends as one that was not: bit for bit."""

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condense.checkpoint.plain import read_plain
from condense.data import DataSet
from condense.errors import CheckpointError, CondenseError
from condense.training import EpochRecord, Interrupted, Result, finetune

SCRIPT = Path(__file__).with_name("killed_training.py")
Build = Callable[..., nn.Module]
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 20, "lr": 0.02, "test": False}


class CrashError(Exception):
    pass


class CrashAt:
    """Breaks off at a step, without a chance to save anything."""

    def __init__(self, step: int) -> None:
        self.left = step

    def start(self, total: int, done: int) -> None:
        pass

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise CrashError

    def epoch_done(self, record: EpochRecord) -> None:
        pass

    def stop(self) -> None:
        pass


class SignalAt(CrashAt):
    """Sends a signal to itself at a step, or after an epoch."""

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def assert_same(one: Result, other: Result) -> None:
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert (one.best_epoch, one.val_top1) == (other.best_epoch, other.val_top1)
    assert [untimed(r.to_dict()) for r in one.history] == [
        untimed(r.to_dict()) for r in other.history
    ]


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("seconds", "images_per_s")}


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [untimed(json.loads(line)) for line in lines]


@pytest.fixture(scope="module", params=["plain", "distilled", "all options"])
def options(request: pytest.FixtureRequest, build: Build) -> dict[str, Any]:
    extra: dict[str, dict[str, Any]] = {
        "plain": {"teacher": None},
        "distilled": {"teacher": build(1), "augment": False, "schedule": "cosine"},
        "all options": {"teacher": build(1), "ema": True, "clip": 1.0, "amp": True, "workers": 1},
    }
    return OPTIONS | extra[request.param]


@pytest.fixture(scope="module")
def uninterrupted(options: dict[str, Any], build: Build, few: DataSet) -> Result:
    return finetune(build(), data=few, **options)


@pytest.mark.parametrize("save_every_s", [0, 1e6])
@pytest.mark.parametrize("step", [1, 2, 4, 5, 6, 11, 15])
def test_a_crash_at_any_step_changes_nothing(
    step: int,
    save_every_s: float,
    options: dict[str, Any],
    uninterrupted: Result,
    build: Build,
    few: DataSet,
    tmp_path: Path,
) -> None:
    options = options | {"folder": tmp_path, "save_every_s": save_every_s}
    with pytest.raises(CrashError):
        finetune(build(), data=few, progress=CrashAt(step), **options)
    torch.manual_seed(12345)
    resumed = finetune(build(), data=few, resume=True, **options)
    assert_same(resumed, uninterrupted)
    assert [r["epoch"] for r in metrics(tmp_path)] == [1, 2, 3]
    assert metrics(tmp_path) == [untimed(r.to_dict()) for r in uninterrupted.history]
    best = read_plain(tmp_path / "best.pt")
    assert best["epoch"] == uninterrupted.best_epoch
    torch.testing.assert_close(best["model"], dict(uninterrupted.model.state_dict()))


@pytest.mark.parametrize("step", [3, 5, 10])
def test_ctrl_c_saves_the_step_it_came_in(
    step: int,
    options: dict[str, Any],
    uninterrupted: Result,
    build: Build,
    few: DataSet,
    tmp_path: Path,
) -> None:
    before = signal.getsignal(signal.SIGINT)
    options = options | {"folder": tmp_path, "save_every_s": 1e6}
    with pytest.raises(Interrupted, match="stopped by SIGINT") as caught:
        finetune(build(), data=few, progress=SignalAt(step), **options)
    assert caught.value.exit_code == 130
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is before
    position = read_plain(tmp_path / "last.pt")["position"]
    assert position["epoch"] * 5 + position["batch"] in (step, step + 1)
    assert_same(finetune(build(), data=few, resume=True, **options), uninterrupted)


def test_a_finished_training_resumes_to_its_result(
    build: Build, few: DataSet, tmp_path: Path
) -> None:
    first = finetune(build(), teacher=None, data=few, folder=tmp_path, **OPTIONS)
    again = finetune(build(), teacher=None, data=few, folder=tmp_path, resume=True, **OPTIONS)
    assert_same(first, again)
    assert first.history == again.history


def test_resume_without_a_state_starts(build: Build, few: DataSet, tmp_path: Path) -> None:
    result = finetune(build(), teacher=None, data=few, folder=tmp_path, resume=True, **OPTIONS)
    assert len(result.history) == 3


def test_a_training_is_not_overwritten(build: Build, few: DataSet, tmp_path: Path) -> None:
    def start(**more: Any) -> Result:
        return finetune(build(), teacher=None, data=few, folder=tmp_path, **OPTIONS, **more)

    start()
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(CondenseError, match=r"last\.pt exists already") as caught:
        start()
    assert caught.value.hint == "--resume continues it, --force starts over"
    assert (tmp_path / "last.pt").read_bytes() == before
    assert len(start(force=True).history) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.01}, r"belongs to another training: lr was 0\.02 and is 0\.01$"),
        ({"epochs": 4, "seed": 1}, r"epochs was 3 and is 4; seed was 0 and is 1$"),
        ({"mean": (0.5,)}, r"mean was None and is \[0\.5\]$"),
        ({"student": 2}, "the student is not the same$"),
        ({"teacher": 2}, "the teacher is not the same$"),
        ({"limit": 50}, "limit was None and is 50; the data is not the same$"),
    ],
)
def test_another_training_is_not_resumed(
    change: dict[str, Any], message: str, build: Build, few: DataSet, tmp_path: Path
) -> None:
    settings = OPTIONS | {"student": 0, "teacher": 1, "data": few, "folder": tmp_path}

    def start(**more: Any) -> Result:
        both = settings | more
        student, teacher = build(both.pop("student")), build(both.pop("teacher"))
        return finetune(student, teacher=teacher, **both)

    with pytest.raises(CrashError):
        start(progress=CrashAt(2), save_every_s=0)
    with pytest.raises(CondenseError, match=message):
        start(resume=True, save_every_s=0, **change)
    assert len(start(resume=True, save_every_s=5, workers=1).history) == 3


def test_damaged_and_strange_states(build: Build, few: DataSet, tmp_path: Path) -> None:
    def resume() -> Result:
        return finetune(build(), teacher=None, data=few, folder=tmp_path, resume=True, **OPTIONS)

    resume()
    last = tmp_path / "last.pt"
    content = last.read_bytes()
    last.write_bytes(content[:1000])
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read"):
        resume()
    torch.save({"format": "other"}, last)
    with pytest.raises(CondenseError, match="is no training state of schema 1"):
        resume()
    last.write_bytes(content)
    (tmp_path / "best.pt").unlink()
    with pytest.raises(CheckpointError, match=r"best\.pt does not exist"):
        resume()


def test_nothing_but_the_state_is_left_in_the_folder(
    build: Build, few: DataSet, tmp_path: Path
) -> None:
    with pytest.raises(CrashError):
        finetune(build(), teacher=None, data=few, folder=tmp_path, progress=CrashAt(7), **OPTIONS)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.pt", "last.pt", "metrics.jsonl"]


def test_what_a_kill_left_half_written_is_swept(build: Build, few: DataSet, tmp_path: Path) -> None:
    options = OPTIONS | {"teacher": None, "data": few, "folder": tmp_path}
    with pytest.raises(CrashError):
        finetune(build(), progress=CrashAt(7), **options)
    (tmp_path / ".last.pt.abc").write_bytes(b"half")
    finetune(build(), resume=True, **options)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.pt", "last.pt", "metrics.jsonl"]


def test_a_full_disk_leaves_the_last_state(
    build: Build, few: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = OPTIONS | {"teacher": None, "data": few, "folder": tmp_path}
    with pytest.raises(CrashError):
        finetune(build(), progress=CrashAt(7), **options)
    before = (tmp_path / "last.pt").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CondenseError, match="No space left"):
            finetune(build(), resume=True, **options)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert len(finetune(build(), resume=True, **options).history) == 3


def start_script(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    pytest.fail(f"the training ended before {line!r}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert start_script(folder).communicate() is not None
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "line", "code"),
    [
        (signal.SIGKILL, "step 25", -9),
        (signal.SIGKILL, "epoch 1", -9),
        (signal.SIGTERM, "step 8", 143),
        (signal.SIGINT, "step 40", 130),
    ],
)
def test_a_killed_process_resumes_to_the_same_files(
    number: int, line: str, code: int, whole: Path, tmp_path: Path
) -> None:
    with start_script(tmp_path) as process:
        wait_for(process, line)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == code
    assert not (tmp_path / "result.pt").exists()
    with start_script(tmp_path, "--resume") as resumed:
        output, _ = resumed.communicate()
    assert resumed.returncode == 0
    steps = [row for row in output.splitlines() if row.startswith("step ")]
    assert steps[-1] == "step 54"
    if code > 0:
        assert int(steps[0].split()[1]) > int(line.split()[1])
    for name in ("result.pt", "best.pt", "last.pt"):
        found, expected = read_plain(tmp_path / name), read_plain(whole / name)
        for key in ("model", "average", "optimizer"):
            torch.testing.assert_close(found.get(key), expected.get(key), rtol=0, atol=0)
        if name == "result.pt":
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert (tmp_path / "result.json").read_text() == (whole / "result.json").read_text()
    assert metrics(tmp_path) == metrics(whole)
