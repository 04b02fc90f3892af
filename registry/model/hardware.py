"""Hardware that the operator offers: GPU classes and availability, for customers' tools."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

T = TypeVar("T")

Omittable = Annotated[T | None, Field(exclude_if=lambda value: value is None)]
Int32 = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]
Int64 = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GpuClassPrice(_Document):
    """Price of a GPU class for a priority ("GpuClassPrice")."""

    price: Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=r"^.*$")]
    priority: Literal["high", "medium", "low", "batch"]


class GpuClass(_Document):
    """A class of GPUs ("GpuClass")."""

    id: Annotated[
        str,
        StringConstraints(
            pattern=r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
        ),
    ]
    name: Annotated[str, StringConstraints(min_length=2, max_length=63, pattern=r"^[ -~]{2,63}$")]
    prices: Annotated[tuple[GpuClassPrice, ...], Field(min_length=1, max_length=100)]
    gpu_class_type: Omittable[Literal["community", "secure"]] = None
    gpu_count: Omittable[Annotated[int, Field(ge=1, le=512)]] = None
    is_high_demand: Omittable[bool] = None
    max_ram: Omittable[Int32] = None
    max_storage: Omittable[Int64] = None
    max_vcpu: Omittable[Int32] = None
    min_ram: Omittable[Int32] = None
    min_storage: Omittable[Int64] = None
    min_vcpu: Omittable[Int32] = None


class CpuAvailability(_Document):
    """Available processors ("CpuAvailability")."""

    available_cpu_batch: Int32 = 0
    on_call_cpu: Int32 = 0


class GpuAvailability(_Document):
    """Available GPUs by priority ("GpuAvailability")."""

    available_gpu_batch: Int32 = 0
    available_gpu_high: Int32 = 0
    available_gpu_low: Int32 = 0
    available_gpu_medium: Int32 = 0
    on_call_gpu: Int32 = 0


class Hardware(_Document):
    """The operator's file.

    Attributes:
        gpu_availability: By the id of the GPU class.
    """

    gpu_classes: Annotated[tuple[GpuClass, ...], Field(max_length=100)] = ()
    cpu_availability: CpuAvailability = CpuAvailability()
    gpu_availability: dict[str, GpuAvailability] = Field(default_factory=dict)

    def available_gpus(self, class_ids: Sequence[str]) -> GpuAvailability:
        """Return how many GPUs of these classes are available, together."""
        wanted = {class_id.lower() for class_id in class_ids}
        found = [each for class_id, each in self.gpu_availability.items() if class_id.lower() in wanted]
        names = GpuAvailability.model_fields
        totals = {name: sum(getattr(each, name) for each in found) for name in names}
        return GpuAvailability(**{name: min(total, (1 << 31) - 1) for name, total in totals.items()})
