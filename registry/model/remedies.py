"""Steps in the sentences of failures that only the operator can take, in the operator's own words.

A failed import's sentence is for the customer, who can ask the operator. The operator reads the same sentence
with the setting to change instead.
"""

from collections.abc import Mapping
from typing import Final

_STEPS: Final[Mapping[str, str]] = {
    "ask the operator to allow this one": "allow this one with CRISPER_EGRESS_ALLOW",
    "ask the operator to allow plain HTTP for this one": "allow plain HTTP with --insecure-registry",
    "ask the operator to allow that host": "allow that host with CRISPER_REGISTRY_REALMS",
    "ask the operator to allow it there": "allow it in the proxy's access list",
    "ask the operator to trust its CA": "trust its CA with CRISPER_REGISTRY_CAS",
    "ask the operator to check the outbound proxy": "check the proxy of CRISPER_EGRESS_PROXY",
    "ask the operator for a higher limit": "raise CRISPER_MAX_IMAGE_BYTES or CRISPER_MAX_UNPACKED_BYTES",
    "ask the operator for a higher quota": "raise the organization's quota",
    "ask the operator to change the policy": "use `crisper policy set` to change the policy",
    "ask the operator to set it again": "set it again with `crisper policy set`",
    "send the group's name to the operator": "run crisper doctor",
}


def for_operator(sentence: str) -> str:
    """Return a failure's sentence as the operator reads it."""
    for asked, step in _STEPS.items():
        sentence = sentence.replace(asked, step)
    return sentence
