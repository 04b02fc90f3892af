"""The portal at `/`: what people see of container groups, pulls, storage and keys (docs/portal.md)."""

from registry.portal.application import Portal
from registry.portal.services import Services
from registry.portal.sessions import PortalSessions

__all__ = ["Portal", "PortalSessions", "Services"]
