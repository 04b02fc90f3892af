"""Keeping storage and catalog in order: collection, scrubbing, inspection."""

from registry.upkeep.collect import Collection
from registry.upkeep.damage import DamageDesk
from registry.upkeep.doctor import Doctor, Finding
from registry.upkeep.lease import Lease
from registry.upkeep.periodic import repeat
from registry.upkeep.repair import Repair, Repaired
from registry.upkeep.scrubbing import Scrubbing

__all__ = [
    "Collection",
    "DamageDesk",
    "Doctor",
    "Finding",
    "Lease",
    "Repair",
    "Repaired",
    "Scrubbing",
    "repeat",
]
