"""The operator API `/api/v1`: organizations, nodes, pull tokens, the audit trail."""

from registry.api.operator.application import NODES_OWN, PREFIX, operator_app

__all__ = ["NODES_OWN", "PREFIX", "operator_app"]
