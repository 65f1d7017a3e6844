"""Two processes train as one does: the same batches, the same gradients up to rounding."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condense.checkpoint.plain import read_plain
from condense.data import DataSet
from condense.errors import ConfigError
from condense.training import TrainConfig
from condense.training.finetuning import _check_share
from condense.training.processes import Processes, joined

SCRIPT = Path(__file__).with_name("shared_training.py")


def train(folder: Path, count: int) -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env=os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * count
    return [read_plain(folder / f"result{rank}.pt") for rank in range(count)]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    (alone,) = train(tmp_path / "one", 1)
    first, second = train(tmp_path / "two", 2)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first["model"], alone["model"], rtol=1e-3, atol=1e-4)
    assert first["top1"] == pytest.approx(alone["top1"], abs=0.01)
    assert first["top1"] > 0.5
    names = {path.name for path in (tmp_path / "two").iterdir()}
    assert names == {"best.pt", "last.pt", "metrics.jsonl", "result0.pt", "result1.pt"}
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 2


def test_alone_there_is_nothing_to_agree_on() -> None:
    with joined(torch.device("cpu")) as processes:
        model = nn.BatchNorm2d(2)
        assert processes.wrapped(model) is model
        assert processes.share == (0, 1)
        assert processes.is_first
        assert processes.any_of(15) == 15
        assert int(processes.total(torch.tensor(3))) == 3
        processes.agree(model)
        processes.wait()


def test_a_group_agrees(tmp_path: Path) -> None:
    """A group of one says so of all that several would exchange."""
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    store = f"file://{tmp_path / 'meeting'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    processes = Processes(0, 2, torch.device("cpu"))
    try:
        model = nn.BatchNorm2d(2)
        assert isinstance(processes.wrapped(model), DistributedDataParallel)
        assert processes.any_of(15) == 15
        assert int(processes.total(torch.tensor(3))) == 3
        processes.agree(model)
        processes.wait()
    finally:
        distributed.destroy_process_group()


def test_a_batch_must_be_shareable(few: DataSet) -> None:
    processes = Processes(0, 3, torch.device("cpu"))
    with pytest.raises(ConfigError, match="batch_size 128 cannot be shared by 3 processes"):
        _check_share(TrainConfig(), processes)


def test_a_group_that_others_made_is_not_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torch import distributed

    store = f"file://{tmp_path / 'meeting'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    try:
        with joined(torch.device("cpu")) as processes:
            assert processes.count == 1
        assert distributed.is_initialized()
    finally:
        distributed.destroy_process_group()
