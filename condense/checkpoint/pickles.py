"""What a pickle would import and call, read from its opcodes without running any of them.

A pickle is a program for a small stack machine. `GLOBAL` and `INST` name what they import in their
argument, `STACK_GLOBAL` takes the two names from the stack, where they may have come from the memo.
So the machine's stack is followed here, with strings as themselves and everything else as a blank.
"""

import io
import pickletools
import re
from collections.abc import Iterator
from typing import IO, Any

HARMLESS = re.compile(
    r"collections\.OrderedDict"
    r"|torch\.(\w+Storage|Size|device|(b?float|u?int|complex|bool)\w*)"
    r"|torch\.storage\.\w*Storage|torch\._utils\._rebuild_\w+"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.Parameter"
)
"""What a state_dict is made of, and what torch's own weights-only reader lets through."""

PICKLES_OF_A_LEGACY_FILE = 5  # magic number, protocol, system, the object, its storages' keys

_MARK = object()
_BLANK = object()
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_EXTENSIONS = {"EXT1", "EXT2", "EXT4"}


def imports(data: bytes, *, pickles: int = 1) -> list[str]:
    """Everything that the pickles in `data` would import, as `module.name`, in order.

    Args:
        data: One pickle, or several one after the other.
        pickles: How many of them to read.
    """
    file, found = io.BytesIO(data), []
    for _ in range(pickles):
        machine = _Machine()
        for name in _operations(file, machine):
            found.append(name)
        if not machine.stopped:
            break
    return list(dict.fromkeys(found))


def beyond_weights(names: list[str]) -> list[str]:
    """Those that a file of nothing but weights has no need of."""
    return [name for name in names if not HARMLESS.fullmatch(name)]


def _operations(file: IO[bytes], machine: "_Machine") -> Iterator[str]:
    """Imports of the next pickle; ends where the file stops being one."""
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if (name := machine.step(opcode, argument)) is not None:
                yield name
    except (ValueError, IndexError):  # cut off, damaged, or no pickle: what was read so far counts
        return


class _Machine:
    """The pickle machine's stack and memo, of which only strings are known."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.stopped = False

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> str | None:
        """Follow one operation; what it imports, if it does."""
        name = opcode.name
        self.stopped = name == "STOP"
        if name in _PUTS or name == "MEMOIZE":
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in _GETS:
            self.stack.append(self.memo.get(argument, _BLANK))
        elif name == "DUP":
            self.stack.append(self._top())
        elif name == "MARK":
            self.stack.append(_MARK)
        else:
            names = self.stack[-2:]
            self._pop(opcode)
            self.stack += [argument if isinstance(argument, str) else _BLANK] * len(
                opcode.stack_after
            )
            return _imported(name, argument, names)
        return None

    def _top(self) -> Any:
        return self.stack[-1] if self.stack else _BLANK

    def _pop(self, opcode: pickletools.OpcodeInfo) -> None:
        """Take off what the operation consumes, down to the last mark if it asks for one."""
        takes = opcode.stack_before
        if pickletools.markobject in takes:
            while self.stack and self.stack.pop() is not _MARK:
                pass
            takes = takes[: takes.index(pickletools.markobject)]
        del self.stack[len(self.stack) - min(len(takes), len(self.stack)) :]


def _imported(name: str, argument: Any, names: list[Any]) -> str | None:
    if name in {"GLOBAL", "INST"}:
        return str(argument).replace(" ", ".", 1)
    if name == "STACK_GLOBAL":
        known = [part if isinstance(part, str) else "(computed)" for part in names]
        return ".".join(known) or "(computed)"
    if name in _EXTENSIONS:
        return f"copyreg extension {argument}"
    return None
