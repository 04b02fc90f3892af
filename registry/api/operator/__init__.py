"""The operator API `/api/v1`: organizations, nodes, pull tokens, the audit trail."""

from registry.api.operator.application import PREFIX, OperatorApi

__all__ = ["PREFIX", "OperatorApi"]
