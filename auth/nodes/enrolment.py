"""Enrolment of nodes and renewal of their certificates (docs/nodes.md)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from cryptography.hazmat.primitives import serialization

from auth.audit import AuthEventType
from auth.errors import Cause, OutsideScopeError, RefusedError
from auth.nodes.ca import NodeCA
from auth.nodes.requests import NodePublicKey, read_public_key
from auth.peer import PeerCertificate, ShownCertificate, described, proves, thumbprint
from auth.ports import AuditEvent, AuditTrail, Binding, Clock, NodeDirectory
from auth.secret import Secret, hash_secret, new_node_secret


class Claim(StrEnum):
    """Result of using an enrolment secret. Refusals have the values of their `Cause`."""

    GRANTED = "granted"
    UNKNOWN = "unknown"
    WRONG_SECRET = "wrong_secret"  # noqa: S105
    EXPIRED = "expired"
    REPLAYED = "replayed"


class EnrolmentRecords(Protocol):
    """Store of hashed enrolment secrets, at most one per node."""

    async def offer(
        self, node_id: str, secret_hash: bytes, expires_at: datetime, *recorded: AuditEvent
    ) -> None:
        """Store a new secret's hash, which replaces an earlier one, and the events, in one transaction."""

    async def check(self, node_id: str, secret_hash: bytes, now: datetime) -> Claim:
        """Return whether a secret could be used for a key, without using it."""

    async def claim(self, node_id: str, secret_hash: bytes, key_hash: bytes, now: datetime) -> Claim:
        """Use a secret for one key, atomically. Granted again for the same key until the secret expires."""


@dataclass(frozen=True, slots=True)
class EnrolmentOffer:
    """A new enrolment secret. It is shown to the operator once and not stored."""

    secret: Secret
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Issued:
    """A node's new certificate and its CA's certificate, both PEM."""

    certificate: str
    ca: str


class NodeEnrolment:
    """Creates enrolment secrets, and issues certificates to nodes with a secret or a valid certificate.

    Args:
        ca: Certificate authority for nodes.
        directory: Directory of nodes.
        records: Store of enrolment secrets.
        audit: Audit trail.
        clock: Source of the current time.
        offer_s: Lifetime of an enrolment secret in seconds.
    """

    def __init__(
        self,
        ca: NodeCA,
        directory: NodeDirectory,
        records: EnrolmentRecords,
        audit: AuditTrail,
        clock: Clock,
        *,
        offer_s: int,
    ) -> None:
        self._ca = ca
        self._directory = directory
        self._records = records
        self._audit = audit
        self._clock = clock
        self._offer_s = offer_s

    async def offer(self, node_id: str, *recorded: AuditEvent) -> EnrolmentOffer:
        """Create an enrolment secret for a node, and record events with it. Invalidates an earlier secret.

        The caller must check that the node exists, authenticates by certificate and is not revoked.
        """
        secret = new_node_secret()
        expires_at = self._clock.now() + timedelta(seconds=self._offer_s)
        await self._records.offer(node_id, hash_secret(secret), expires_at, *recorded)
        return EnrolmentOffer(secret, expires_at)

    async def enrol(self, node_id: str, secret: Secret, request: str, *, source: str) -> Issued:
        """Issue a node's first certificate.

        The signing request is read only after the secret was checked, because strangers can send both. An
        invalid request does not use up the secret. The secret is valid for one key: after a lost answer,
        the node retries with the same key and gets another certificate
        (docs/adr/0021-enrolment-secret-bound-to-one-key.md).

        Raises:
            CertificateRequestError: The signing request is not acceptable.
            RefusedError: The node may not enrol, or the secret is wrong, expired or used.
        """
        try:
            await self._require_certified(node_id)
            _require_granted(
                await self._records.check(node_id, hash_secret(secret), self._clock.now()), node_id
            )
            key = read_public_key(request)
            await self._spend(node_id, secret, key)
        except RefusedError as refusal:
            await self._refused(refusal, "enrolment", source)
            raise
        return await self._issue(AuthEventType.NODE_ENROLLED, node_id, key, source)

    async def renew(
        self, node_id: str, peer: ShownCertificate | None, request: str, *, source: str
    ) -> Issued:
        """Issue a node's next certificate.

        Args:
            node_id: Id of the node.
            peer: Current certificate of the node.
            request: Certificate signing request, PEM, with the same key or another.
            source: Network address of the node.

        Raises:
            CertificateRequestError: The signing request is not acceptable.
            RefusedError: The presented certificate is not this node's, or the node is revoked.
        """
        try:
            _require_proof(peer, node_id)
            await self._require_certified(node_id)
            key = read_public_key(request)
        except RefusedError as refusal:
            await self._refused(refusal, "renewal", source, peer)
            raise
        return await self._issue(AuthEventType.NODE_RENEWED, node_id, key, source)

    async def admit(self, node_id: str, peer: ShownCertificate | None, *, action: str, source: str) -> None:
        """Check that a request comes from the node itself, and that the node is not revoked.

        Args:
            node_id: Id of the node that the request changes.
            peer: Certificate of the caller.
            action: What the caller requests, for the audit trail.
            source: Network address of the caller.

        Raises:
            OutsideScopeError: The certificate is another node's.
            RefusedError: There is no valid certificate, or the node is revoked.
        """
        try:
            if isinstance(peer, PeerCertificate) and not proves(peer, node_id):
                raise OutsideScopeError(Cause.WRONG_NODE, node_id=node_id)
            _require_proof(peer, node_id)
            await self._require_certified(node_id)
        except RefusedError as refusal:
            await self._refused(refusal, action, source, peer)
            raise

    async def _require_certified(self, node_id: str) -> None:
        node = await self._directory.get(node_id)
        if node is None:
            raise RefusedError(Cause.NODE_UNKNOWN, node_id=node_id)
        if node.revoked_at is not None:
            raise RefusedError(Cause.NODE_REVOKED, node_id=node_id)
        if node.binding is not Binding.CERTIFICATE:
            raise RefusedError(Cause.WRONG_PEER, node_id=node_id)

    async def _spend(self, node_id: str, secret: Secret, key: NodePublicKey) -> None:
        claim = await self._records.claim(node_id, hash_secret(secret), _hash(key), self._clock.now())
        _require_granted(claim, node_id)

    async def _issue(self, event: AuthEventType, node_id: str, key: NodePublicKey, source: str) -> Issued:
        certificate = self._ca.issue(key, node_id, self._clock.now())
        detail = {
            "x5t#S256": thumbprint(certificate.public_bytes(serialization.Encoding.DER)),
            "serial": f"{certificate.serial_number:x}",
            "not_after": certificate.not_valid_after_utc.isoformat(),
        }
        await self._audit.record(AuditEvent(event, node_id=node_id, source=source, detail=detail))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return Issued(pem.decode(), self._ca.certificate_pem.decode())

    async def _refused(
        self, refusal: RefusedError, at: str, source: str, peer: ShownCertificate | None = None
    ) -> None:
        await self._audit.record(
            AuditEvent(
                AuthEventType.NODE_REFUSED,
                node_id=refusal.node_id,
                cause=refusal.cause.value,
                source=source,
                detail={"at": at, **described(peer)},
            )
        )


def _require_granted(claim: Claim, node_id: str) -> None:
    if claim is not Claim.GRANTED:
        raise RefusedError(Cause(claim.value), node_id=node_id)


def _require_proof(peer: ShownCertificate | None, node_id: str) -> None:
    if not proves(peer, node_id):
        raise RefusedError(Cause.WRONG_PEER, node_id=node_id)


def _hash(key: NodePublicKey) -> bytes:
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()
