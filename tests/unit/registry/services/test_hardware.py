"""The operator's file of GPU classes and availability."""

import json
import os
from pathlib import Path

import pytest

from registry.errors import ConfigError
from registry.services.hardware import MAX_FILE_BYTES, HardwareFile

CLASS_ID = "0b7c9a52-6f0e-4f5c-9a55-1f5a0f0f8c11"
GPU_CLASS = {"id": CLASS_ID, "name": "RTX 4090", "prices": [{"price": "0.18", "priority": "low"}]}
DOCUMENT = {
    "gpu_classes": [GPU_CLASS],
    "cpu_availability": {"available_cpu_batch": 12},
    "gpu_availability": {
        CLASS_ID: {"available_gpu_low": 3},
        CLASS_ID.replace("0b", "1b"): {"available_gpu_low": 4},
    },
}


async def test_without_a_file_there_is_no_hardware() -> None:
    found = await HardwareFile(None).hardware()
    assert (found.gpu_classes, found.cpu_availability.available_cpu_batch) == ((), 0)
    assert found.available_gpus([CLASS_ID]).available_gpu_low == 0


async def test_a_changed_file_is_read_again_unless_it_is_invalid(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hardware.json"
    path.write_text(json.dumps(DOCUMENT))
    file = HardwareFile(path)
    found = await file.hardware()
    assert [each.name for each in found.gpu_classes] == ["RTX 4090"]
    assert found.available_gpus([CLASS_ID.upper()]).available_gpu_low == 3
    assert found.available_gpus([CLASS_ID, CLASS_ID.replace("0b", "1b")]).available_gpu_low == 7
    path.write_text("{")
    assert await file.hardware() == found
    path.unlink()
    assert await file.hardware() == found
    path.write_text(json.dumps({"cpu_availability": {"available_cpu_batch": 13}}))
    assert (await file.hardware()).cpu_availability.available_cpu_batch == 13
    same_size = path.read_text().replace("13", "14")
    path.write_text(same_size)
    os.utime(path, (1, 1))
    assert (await file.hardware()).cpu_availability.available_cpu_batch == 14


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"gpu_class": []}',
        json.dumps({"gpu_classes": [{**GPU_CLASS, "id": "x"}]}),
        json.dumps({"gpu_classes": [{**GPU_CLASS, "prices": []}]}),
        json.dumps({"cpu_availability": {"on_call_cpu": -1}}),
        " " * (MAX_FILE_BYTES + 1),
    ],
)
def test_a_server_does_not_start_with_an_invalid_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hardware.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="CRISPER_HARDWARE_FILE"):
        HardwareFile(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        HardwareFile(tmp_path / "none.json")
