"""Web portal at `/`: container groups, pulls, audit trail, storage and keys (docs/portal.md)."""

from registry.portal.application import Portal
from registry.portal.services import Services
from registry.portal.sessions import PortalSessions

__all__ = ["Portal", "PortalSessions", "Services"]
