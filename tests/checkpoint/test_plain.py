from pathlib import Path

import pytest
import torch
from torch import nn

from condense.checkpoint import Origin, read_plain
from condense.checkpoint.origin import attach, settled_input_size
from condense.errors import CheckpointError, ConfigError


def test_plain_types_and_tensors_come_back(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "weights": {"a": torch.ones(2)}}, tmp_path / "last.pt")
    content = read_plain(tmp_path / "last.pt")
    assert content["epoch"] == 3
    assert torch.equal(content["weights"]["a"], torch.ones(2))


@pytest.mark.parametrize("content", [nn.Linear(1, 1), [1, 2]])
def test_anything_else_is_refused(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"cannot be read|holds a list, expected a dict"):
        read_plain(tmp_path / "last.pt")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist, expected a file that condense"):
        read_plain(tmp_path / "last.pt")
    (tmp_path / "last.pt").touch()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_plain(tmp_path / "last.pt")


def test_the_input_size_of_an_origin() -> None:
    model = attach(nn.Linear(1, 1), Origin(input_size=(3, 8, 8)))
    assert settled_input_size(model) == (3, 8, 8)
    with pytest.raises(ConfigError, match="size of the model's input is not known"):
        settled_input_size(nn.Linear(1, 1))
