"""A report as CSV: one line for each model, raw numbers, the conditions repeated on every line."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from condense.reporting.rows import conditions_of

COUNTS = (
    "role",
    "params",
    "macs",
    "macs_paper",
    "macs_thop",
    "elementwise_ops",
    "depth_blocks",
    "depth_layers",
    "file_bytes",
)
CONDITIONS = ("cpu", "gpu", "os", "torch", "onnxruntime", "condense", "date")


def to_csv(report: Mapping[str, Any]) -> str:
    """Unrounded: times in milliseconds, accuracy as a fraction, empty what was not measured."""
    lines = [_line(model, report) for model in report["models"]]
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(model: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    line = {name: model[name] for name in COUNTS}
    score = model["accuracy"] or {"split": None, "top1": None, "n": None, "ci95": (None, None)}
    line |= {"split": score["split"], "top1": score["top1"], "n": score["n"]}
    line |= {"ci95_low": score["ci95"][0], "ci95_high": score["ci95"][1]}
    for (runtime, batch), record in conditions_of(model):
        for key in ("median_ms", "iqr_ms", "threads", "device", "dtype"):
            line[f"{runtime}_b{batch}_{key}"] = record[key]
    line |= {name: report["environment"].get(name) for name in CONDITIONS}
    return line | {
        "input_size": "x".join(map(str, report["input_size"])),
        "command": report.get("command"),
    }
