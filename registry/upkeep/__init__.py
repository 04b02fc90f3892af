"""Keeping storage and catalog in order: collection, scrubbing, inspection."""

from registry.upkeep.collect import Collection
from registry.upkeep.damage import DamageDesk
from registry.upkeep.doctor import Doctor
from registry.upkeep.periodic import repeat
from registry.upkeep.repair import Repair
from registry.upkeep.scrubbing import Scrubbing

__all__ = ["Collection", "DamageDesk", "Doctor", "Repair", "Scrubbing", "repeat"]
