"""A report as rows of text: what the table, Markdown and HTML show, in one order."""

from collections.abc import Iterator, Mapping
from typing import Any

from condense.reporting.figures import NOTHING, accuracy, count, large, milliseconds, shape, size

TITLES = {
    "params": ("params", count),
    "macs": ("MACs", large),
    "macs_paper": ("MACs, papers' convention", large),
    "macs_thop": ("MACs, thop", large),
    "elementwise_ops": ("elementwise ops", large),
}


def report_rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """One row for each number: its name, then each model's."""
    models = report["models"]
    rows = [
        (title, [written(model[key]) for model in models])
        for key, (title, written) in TITLES.items()
    ]
    rows.append(("depth, blocks", [_depth(model) for model in models]))
    rows.append(("depth, layers", [count(model["depth_layers"]) for model in models]))
    rows += _latency_rows(models)
    splits = {model["accuracy"]["split"] for model in models if model["accuracy"]}
    title = f"top-1, {'/'.join(sorted(splits))}" if splits else "top-1"
    rows.append((title, [accuracy(model["accuracy"]) for model in models]))
    rows.append(("file", [size(model["file_bytes"]) for model in models]))
    return rows


def environment_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where and with what the figures were made."""
    machine = report["environment"]
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    versions = ("python", "torch", "torchvision", "onnxruntime", "condense")
    software = ", ".join(f"{name} {machine[name]}" for name in versions if machine.get(name))
    lines = [
        ("command", report.get("command") or NOTHING),
        ("image", f"{shape(report['input_size'])}; counts are for one image"),
        ("timed on", _devices(report["models"])),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores{gpu}, {machine['os']}"),
        ("software", software),
        ("date", str(machine["date"])),
    ]
    tested = {model["accuracy"]["n"] for model in report["models"] if model["accuracy"]}
    if tested:
        images = " / ".join(count(n) for n in sorted(tested))
        lines.append(("top-1", f"on {images} images, with its 95 % interval (Wilson)"))
    return lines


def conditions_of(model: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Each latency record of a model by runtime and batch size."""
    for runtime, records in model["latency"].items():
        for record in records:
            yield (runtime, record["batch_size"]), record


def _depth(model: Mapping[str, Any]) -> str:
    steps = sorted(set(model["pde_steps"]))
    return f"{model['depth_blocks']}" + (f" (K={'/'.join(map(str, steps))})" if steps else "")


def _latency_rows(models: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    tables = [dict(conditions_of(model)) for model in models]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    return [
        (f"ms, {runtime}, batch {batch}", [_time(table.get((runtime, batch))) for table in tables])
        for runtime, batch in keys
    ]


def _time(record: Mapping[str, Any] | None) -> str:
    return NOTHING if record is None else milliseconds(record["median_ms"], record["iqr_ms"])


def _devices(models: list[dict[str, Any]]) -> str:
    seen = {
        f"{record['device']}, {record['threads']} thread{'s' if record['threads'] > 1 else ''}, "
        f"{record['dtype']}"
        for model in models
        for _, record in conditions_of(model)
    }
    return "; ".join(sorted(seen)) or NOTHING
