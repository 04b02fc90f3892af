"""The public API's GPU classes and availability, from the operator's file (docs/public-api.md)."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.public.application import ORGANIZATION, READ, WRITE
from registry.api.public.shapes import Integer, Items, Shape, Text, Uuid
from registry.model.access import KeyScope
from registry.model.hardware import CpuAvailability, GpuAvailability, GpuClass
from registry.services.hardware import HardwareFile

_AVAILABILITY: Final = f"{ORGANIZATION}/availability"


class GpuClassesList(Shape):
    """GPU classes ("GpuClassesList")."""

    items: Annotated[list[GpuClass], Field(max_length=100)]


class CpuAvailabilityPrototype(Shape):
    """Requested resources ("CpuAvailabilityPrototype"). They do not change the result."""

    country_codes: Items[Text] | None = None
    cpu: Integer | None = None
    memory: Integer | None = None
    storage_amount: Integer | None = None


class GpuAvailabilityPrototype(CpuAvailabilityPrototype):
    """GPU classes, and what else is needed ("GpuAvailabilityPrototype")."""

    gpu_classes: Annotated[list[Uuid], Field(min_length=1, max_length=1000)]


class HardwareApi:
    """Operations on the operator's hardware."""

    tag: ClassVar[str] = "hardware"

    def __init__(self, file: HardwareFile) -> None:
        self._file = file

    @Endpoint("GET", f"{ORGANIZATION}/gpu-classes", "The GPU classes.", errors=READ)
    async def list_gpu_classes(self, call: Call[None]) -> GpuClassesList:  # noqa: ARG002 (alike for all)
        """List the GPU classes that the operator offers."""
        return GpuClassesList(items=list((await self._file.hardware()).gpu_classes))

    @Endpoint(
        "POST",
        f"{_AVAILABILITY}/sce-cpu-availability",
        "The available processors.",
        errors=WRITE,
        scope=KeyScope.READ,
    )
    async def get_cpu_availability(self, call: Call[CpuAvailabilityPrototype]) -> CpuAvailability:  # noqa: ARG002
        """Get how many processors are available."""
        return (await self._file.hardware()).cpu_availability

    @Endpoint(
        "POST",
        f"{_AVAILABILITY}/sce-gpu-availability",
        "The available GPUs.",
        errors=WRITE,
        scope=KeyScope.READ,
    )
    async def get_gpu_availability(self, call: Call[GpuAvailabilityPrototype]) -> GpuAvailability:
        """Get how many GPUs of some classes are available."""
        return (await self._file.hardware()).available_gpus(call.body.gpu_classes)
