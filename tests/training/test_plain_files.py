"""Files with plain types and tensors only."""

from pathlib import Path

import pytest
import torch

from condense.checkpoint.plain import read_plain
from condense.errors import CheckpointError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, "x"], "b": {"c": torch.arange(3)}}
    torch.save(content, tmp_path / "file.pt")
    torch.testing.assert_close(read_plain(tmp_path / "file.pt")["b"], content["b"])


class Stranger:
    pass


def test_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with pytest.raises(CheckpointError, match="does not exist"):
        read_plain(path)
    for content in (b"", b"hello", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_plain(path)
    torch.save(Stranger(), path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_plain(path)
    torch.save([1], path)
    with pytest.raises(CheckpointError, match="holds a list, expected a dict"):
        read_plain(path)
