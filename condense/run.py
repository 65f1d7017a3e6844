"""The run folder: what a sequence of commands did, its artefacts, and what each was made from."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from condense.errors import CondenseError

SCHEMA = 1
MANIFEST = "run.json"


@contextlib.contextmanager
def written_whole(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block ends well.

    A reader sees the old file or the new one, never a part; an error leaves the old one as it was.

    Raises:
        CondenseError: If `path` exists and `force` is not given, or the disk refuses.
    """
    path = Path(path)
    if path.is_dir():
        raise CondenseError(
            f"{path} is a directory, expected a file name", hint="name a file in it"
        )
    if path.exists() and not force:
        raise CondenseError(f"{path} exists already", hint="--force overwrites it")
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    partial = Path(name)
    try:
        with _disk_errors(path):
            yield partial
            _flush_to_disk(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: str | Path) -> str:
    """Hash of a file's content, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Run:
    """A run folder.

    `run.json` records for each artefact its file (relative to the folder), its hash, and the hashes
    of what it was made from; an artefact whose inputs have changed since is stale.

    Args:
        folder: Where it is. Made with the first artefact.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __contains__(self, role: object) -> bool:
        return role in self._artefacts

    def __iter__(self) -> Iterator[str]:
        """The roles of all artefacts."""
        return iter(self._artefacts)

    @property
    def facts(self) -> dict[str, Any]:
        """What commands remember for the next ones: model, architecture, input size, data."""
        found: dict[str, Any] = self._read()["facts"]
        return found

    def remember(self, **facts: Any) -> None:
        """Add to the facts and save."""
        manifest = self._read()
        manifest["facts"] |= facts
        self._save(manifest)

    def remember_path(self, key: str, place: str) -> None:
        """Remember a place on disk, or a `file.py:name`, relative to the folder; else as it is."""
        file, colon, name = _parts(place)
        if Path(file).exists():
            place = f"{os.path.relpath(file, self.folder)}{colon}{name}"
        self.remember(**{key: place})

    def remembered_path(self, key: str) -> str | None:
        """What `remember_path` was given, as seen from here."""
        place: str | None = self.facts.get(key)
        if place is None:
            return None
        file, colon, name = _parts(place)
        is_here = self.path(file).exists() or os.sep in file
        return f"{self.path(file)}{colon}{name}" if is_here else place

    def path(self, name: str) -> Path:
        """Where a file of this run lies; `name` may lead out of the folder, which may not exist."""
        return Path(os.path.normpath(self.folder / name))

    def record(self, role: str, name: str, *, made_from: dict[str, str], **details: Any) -> None:
        """Note that the file `name` is now the artefact `role`.

        Args:
            role: For example `converted`.
            name: File name in the folder.
            made_from: Hash of each input, by what it is.
            details: Plain values to keep beside it.
        """
        entry = {"file": name, "sha256": sha256(self.path(name)), "made_from": made_from, **details}
        manifest = self._read()
        manifest["artefacts"][role] = entry
        self._save(manifest)

    def artefact(self, role: str) -> dict[str, Any] | None:
        """What was recorded of an artefact, or None."""
        entry: dict[str, Any] | None = self._artefacts.get(role)
        return entry

    def hash_of(self, role: str) -> str:
        """Hash of an artefact as recorded, and of the options that it is opened with."""
        entry = self._artefacts[role]
        if not entry.get("how"):
            return str(entry["sha256"])
        both = json.dumps([entry["sha256"], entry["how"]], sort_keys=True)
        return hashlib.sha256(both.encode()).hexdigest()

    def why_stale(self, role: str) -> str | None:
        """Why an artefact no longer fits this run, in a few words; None if it does."""
        entry = self._artefacts[role]
        path = self.path(entry["file"])
        if not path.is_file():
            return f"{entry['file']} is missing"
        if sha256(path) != entry["sha256"]:
            return f"{entry['file']} was changed since"
        for source, digest in entry["made_from"].items():
            if source not in self:
                continue
            if self.hash_of(source) != digest:
                return f"{source} was made again since"
            if reason := self.why_stale(source):
                return f"its {source} no longer fits: {reason}"
        return None

    @property
    def _artefacts(self) -> dict[str, Any]:
        found: dict[str, Any] = self._read()["artefacts"]
        return found

    def _read(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        if not path.exists():
            return {"schema": SCHEMA, "facts": {}, "artefacts": {}}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            schema = found["schema"]
            fits = isinstance(found["facts"], dict) and _are_entries(found["artefacts"])
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise _unreadable(path) from error
        if schema != SCHEMA or not fits:
            raise _unreadable(path)
        manifest: dict[str, Any] = found
        return manifest

    def _save(self, manifest: dict[str, Any]) -> None:
        with written_whole(self.folder / MANIFEST, force=True) as path:
            path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _parts(place: str) -> tuple[str, str, str]:
    """`file.py:name` in three parts, anything else in the first."""
    return place.rpartition(":") if ".py:" in place else (place, "", "")


def _are_entries(found: Any) -> bool:
    kinds = {"file": str, "sha256": str, "made_from": dict}
    return isinstance(found, dict) and all(
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
        for entry in found.values()
    )


def _unreadable(path: Path) -> CondenseError:
    return CondenseError(
        f"{path} is not a run's manifest of schema {SCHEMA}",
        hint="name another folder with --run, or remove this one",
    )


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = (
            "free some space and run this again; what was there before is untouched"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "choose another place for it"
        )
        raise CondenseError(f"{path} cannot be written: {reason}", hint=hint) from error


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
