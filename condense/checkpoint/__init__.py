"""Files in, modules out, and back: formats, safe loading, architectures told from weights.

    model = load("resnet32.th")          # a module in eval mode, with its `origin`
    save(model, "small.pt")              # weights, origin and plan in one file

Everything is opened weights-only. A file that holds more is refused with the list of what it would
import, unless it is trusted.
"""

from condense.checkpoint.architectures import parse_args
from condense.checkpoint.artefact import restore_onto, save
from condense.checkpoint.loading import load
from condense.checkpoint.origin import Origin, origin_of
from condense.checkpoint.plain import read_plain

__all__ = ["Origin", "load", "origin_of", "parse_args", "read_plain", "restore_onto", "save"]
