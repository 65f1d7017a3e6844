import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.measurement import Latency, Timing, environment, measure, measure_latency
from condense.measurement.machine import cpu_name
from condense.measurement.observe import random_images


def test_all_numbers_of_a_small_network(small: nn.Module) -> None:
    found = measure(small, (3, 8, 8), latency=False)
    stem = 4 * 64 * 27
    first = 2 * 2 * 4 * 64 * 36
    second = 8 * 16 * 36 + 3 * 8 * 16 * 72 + 8 * 16 * 4
    assert found.macs == stem + first + second + 80
    normalised = 5 * 4 * 64 + 5 * 8 * 16
    assert found.elementwise_ops == 2 * normalised + (5 * 4 * 64 + 4 * 8 * 16) + 2 * (256 + 128)
    assert found.macs_paper == found.macs + 2 * normalised + 8 * 17
    assert (found.depth_blocks, found.depth_layers, found.pde_steps) == (4, 10, ())
    assert found.uncounted == {"mean": 8}
    assert found.latency == {}


def test_the_record_has_the_designs_keys(small: nn.Module) -> None:
    record = measure(small, (3, 8, 8), batch_sizes=(1, 3), repeats=2).to_dict()
    json.dumps(record, allow_nan=False)
    assert list(record) == [
        "params",
        "macs",
        "macs_paper",
        "macs_thop",
        "elementwise_ops",
        "depth_blocks",
        "depth_layers",
        "pde_steps",
        "latency",
        "uncounted",
    ]
    first, second = record["latency"]["torch"]
    assert set(first) == {"median_ms", "iqr_ms", "batch_size", "threads", "device", "dtype"}
    assert (first["batch_size"], second["batch_size"]) == (1, 3)
    assert (first["device"], first["dtype"]) == ("cpu", "float32")
    assert first["threads"] == torch.get_num_threads()
    assert first["median_ms"] > 0


class Recorder(nn.Module):
    """Notes which model ran, on what, in which mode."""

    def __init__(self, name: str, log: list) -> None:
        super().__init__()
        self.name, self.log = name, log
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.log.append((self.name, len(x), x.dtype, self.training, torch.is_grad_enabled()))
        return x * self.scale


def test_models_take_turns_in_eval_mode_without_gradients() -> None:
    log: list = []
    models = {name: Recorder(name, log).train() for name in "ab"}
    table = measure_latency(models, (1, 2, 2), batch_sizes=(2,), repeats=4, warmup=1)
    assert {name for name, *_ in log} == {"a", "b"}
    assert {entry[1:] for entry in log} == {(2, torch.float64, False, False)}
    assert all(model.training for model in models.values())
    (record,) = table["a"]["torch"]
    assert len(record.timing.samples) == 4
    assert record.dtype == "float64"


def test_onnxruntime_times_the_exported_graph(small: nn.Module) -> None:
    table = measure_latency(
        {"small": small}, (3, 8, 8), runtimes=("onnxruntime",), batch_sizes=(1, 4), repeats=2
    )
    first, second = table["small"]["onnxruntime"]
    assert (first.batch_size, second.batch_size) == (1, 4)
    assert first.iqr_ms >= 0


def test_torch_compile_is_called_once_per_model(
    small: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []

    def compile_(model: nn.Module, **options: bool) -> nn.Module:
        compiled.append(model)
        assert options == {"dynamic": False}
        return model

    monkeypatch.setattr(torch, "compile", compile_)
    table = measure_latency({"small": small}, (3, 8, 8), runtimes=("torch_compile",), repeats=1)
    assert compiled == [small]
    assert len(table["small"]["torch_compile"]) == 1


def test_an_unknown_runtime_is_named_with_those_that_there_are(small: nn.Module) -> None:
    with pytest.raises(ConfigError, match="no runtime named 'tensorrt'; there are: torch, torch_"):
        measure(small, (3, 8, 8), runtimes=("tensorrt",))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(3, 8), (0, 8, 8), (1, 3, 8, 8)])
def test_an_input_size_is_three_positive_numbers(small: nn.Module, size: tuple) -> None:
    with pytest.raises(ConfigError, match=r"input_size must be three positive numbers"):
        measure(small, size)


def test_noise_has_the_models_type_and_leaves_the_global_generator_alone() -> None:
    model = nn.Linear(1, 1).double()
    state = torch.get_rng_state()
    noise = random_images(model, (1, 2, 2), 3)
    assert (noise.shape, noise.dtype) == ((3, 1, 2, 2), torch.float64)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(noise, random_images(model, (1, 2, 2), 3))


def test_a_latency_record_keeps_its_samples_to_itself() -> None:
    record = Latency(
        timing=Timing((1.0, 2.0, 3.0)), batch_size=1, threads=2, device="cpu", dtype="float32"
    )
    assert "timing" not in record.to_dict()
    assert record.to_dict()["median_ms"] == 2.0


def test_the_environment_is_plain_and_complete() -> None:
    found = environment()
    json.dumps(found)
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1
    assert all(found[name] for name in ("onnxruntime", "condense", "python", "cpu", "os", "date"))
    assert (found["gpu"] is None) == (not torch.cuda.is_available())


def test_the_processors_name_comes_from_linux_or_from_python(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor: 0\nmodel name\t: Fast 9000\n")
    assert cpu_name(info) == "Fast 9000"
    info.write_text("processor: 0\n")
    assert cpu_name(info) == cpu_name(tmp_path / "missing") != ""


def test_an_absent_package_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    from condense.measurement import machine

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(machine, "version", absent)
    assert environment()["onnxruntime"] is None
