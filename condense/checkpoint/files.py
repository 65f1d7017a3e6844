"""A file's kind, told from its first bytes: never from its name."""

import zipfile
from enum import Enum
from pathlib import Path

from condense.errors import CheckpointError

EXPECTED = "expected a PyTorch checkpoint, safetensors, TorchScript, .pt2 or a file of condense"
HEAD = 512  # bytes that tell a kind
LEGACY_HEAD = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""torch's magic number, which its pre-1.6 files start with after the pickle's protocol."""

NOT_CHECKPOINTS = {
    b"version https://git-lfs": ("a git-lfs pointer, not the file itself", "git lfs pull"),
    b"<!doctype html": ("a web page", "the download went wrong: get the file itself"),
    b"<html": ("a web page", "the download went wrong: get the file itself"),
    b"<?xml": ("an XML document", "the download went wrong: get the file itself"),
    b"\x1f\x8b": ("gzip-compressed", "unpack it first"),
    b"\xfd7zxz": ("xz-compressed", "unpack it first"),
    b"\x89hdf": ("an HDF5 file", "save the weights as a PyTorch state_dict"),
    b"\x93numpy": ("a NumPy array", "save the weights as a PyTorch state_dict"),
}
"""Lower-cased beginnings of files, what they are, and what to do about it."""


class Kind(Enum):
    """What can be opened."""

    ZIP = "torch.save's zip archive"
    LEGACY = "torch.save's older format"
    PICKLE = "a plain pickle"
    SAFETENSORS = "safetensors"
    TORCHSCRIPT = "a TorchScript archive"
    EXPORTED = "a .pt2 archive"


def kind_of(path: Path) -> Kind:
    """Which of the kinds a file is.

    Raises:
        CheckpointError: If there is no such file, or it is none of them.
    """
    head = _head(path)
    if head.startswith(b"PK"):
        return _kind_of_archive(path)
    if head[:1] == b"\x80":
        return Kind.LEGACY if LEGACY_HEAD in head[:32] else Kind.PICKLE
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return Kind.SAFETENSORS
    for start, (what, hint) in NOT_CHECKPOINTS.items():
        if head.lstrip().lower().startswith(start):
            raise CheckpointError(f"{path} is {what}; {EXPECTED}", hint=hint)
    what = "a text file" if _is_text(head) else "of no known format"
    raise CheckpointError(f"{path} is {what}; {EXPECTED}", hint="name the file with the weights")


def _head(path: Path) -> bytes:
    if path.is_dir():
        inside = sorted(item.name for item in path.iterdir() if item.is_file())
        hint = f"name a file in it, for example {path / inside[0]}" if inside else None
        raise CheckpointError(f"{path} is a directory, expected a file", hint=hint)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist",
            hint="check its name and the folder; random weights are asked for by "
            "torchvision:NAME or condense:NAME, and a URL has to be downloaded first",
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise CheckpointError(f"{path} is empty; {EXPECTED}", hint="copy or download it again")
    return head


def _kind_of_archive(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is a zip archive cut off before its end ({path.stat().st_size} bytes)",
            hint="copy or download it again",
        ) from error
    if any(name in names for name in ("archive_format", "serialized_exported_program.json")):
        return Kind.EXPORTED
    if "data.pkl" in names:
        return Kind.TORCHSCRIPT if "constants.pkl" in names else Kind.ZIP
    raise CheckpointError(
        f"{path} is a zip archive without a data.pkl; {EXPECTED}",
        hint="a .npz file is data, not a model" if path.suffix == ".npz" else None,
    )


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", errors="replace")
    if len(head) == HEAD:
        text = text.rstrip("\ufffd")  # the last character may be cut in two
    return all(char.isspace() or (char.isprintable() and char != "\ufffd") for char in text)
