"""The operator API `/api/v1`: organizations, nodes, pull tokens, the audit trail."""

from registry.api.operator.application import PREFIX, operator_app

__all__ = ["PREFIX", "operator_app"]
