"""What a node's pulls say about an instance: its state, its progress, and how certain that is.

A node fetches only the blobs that it does not have. A pull is complete when every blob of a platform

1. was delivered in this session, or
2. was delivered in full to this node before and is not requested now (`delivered`), or
3. was never requested, after the config arrived and the session was quiet for a while (`quiet`).

A report of the node or of the scheduler (`reported`) needs none of this. Only 1 and a report are certain:
if a later request contradicts 2 or 3, the instance is downloading again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from auth.records import BlobProgress, SessionView, TokenState, TokenView, blob_key
from registry.model.images import ContentKind, StoredImage
from registry.model.instances import HOLDING, Instance, InstanceState, KnownBy

REST: Final = timedelta(seconds=5)
"""Time without a request after which the blobs that a node has from earlier count as not needed."""
QUIET: Final = timedelta(seconds=30)
"""Time without a request after which a pull counts as complete as far as is known."""


@dataclass(frozen=True, slots=True)
class PlatformBlobs:
    """Blobs that a node needs for one platform of an image, by `blob_key`.

    Attributes:
        config: Key of the config; None if the image is no longer stored.
        sizes: Sizes in bytes of the config and the layers.
    """

    config: str | None
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PullStatus:
    """What one token says about its node.

    Attributes:
        state: None if the token ended before the node had the image.
        known_by: How it is known that the node has the image; None if it is not known to have it.
        is_certain: Whether no later request can change the state.
        has_ended: Whether the token and its session have ended.
        awaits_blobs: Whether the session requested blobs that it did not get to their end.
        is_quiet: Whether the session made no request for `QUIET`.
        percent: Part of the image that the node has.
    """

    state: InstanceState | None
    known_by: KnownBy | None = None
    is_certain: bool = False
    has_ended: bool = False
    awaits_blobs: bool = False
    is_quiet: bool = False
    percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Pull:
    """A token of an instance, the version that it is for, and its status."""

    token_id: str
    version: int
    status: PullStatus


GONE: Final = PullStatus(None, has_ended=True)
"""Status of a token that the ledger no longer has."""


def platforms_of(image: StoredImage | None, view: TokenView) -> Sequence[PlatformBlobs]:
    """Return what each platform of a session's image needs; without the image, all blobs of the session."""
    if image is None:
        blobs = view.session.blobs if view.session else {}
        return [PlatformBlobs(None, {key: blob.size_bytes for key, blob in blobs.items()})]
    return [_blobs_of(each) for each in image.platforms or (image,)]


def _blobs_of(image: StoredImage) -> PlatformBlobs:
    config = next((blob_key(str(c.digest)) for c in image.contents if c.kind is ContentKind.CONFIG), None)
    return PlatformBlobs(config, {blob_key(digest): size for digest, size in image.platform_blobs.items()})


def judge(view: TokenView, platforms: Sequence[PlatformBlobs], had: Collection[str]) -> PullStatus:
    """Return what a token says about its node.

    Args:
        view: The token in the ledger.
        platforms: Blobs of the platforms, one of which the node needs.
        had: Keys of the blobs that were delivered to this node in full, in other sessions.
    """
    if view.state is TokenState.MINTED:
        return PullStatus(InstanceState.ALLOCATING)
    session, has_ended = view.session, view.state is not TokenState.ACTIVE
    known_by, is_certain = None, has_ended
    found = [_compare(session, each, had) for each in platforms] if session is not None else []
    if any(each.is_delivered for each in found):
        known_by, is_certain = KnownBy.DELIVERED, True
    elif view.state is TokenState.DONE:
        known_by = KnownBy.REPORTED
    elif session is not None and view.state is not TokenState.REVOKED:
        known_by = _infer(view, session, found)
    if known_by is not None:
        return PullStatus(InstanceState.CREATING, known_by, is_certain, has_ended, percent=100.0)
    if has_ended or session is None:
        return GONE
    best = max(found, key=lambda each: each.percent)
    return PullStatus(
        InstanceState.DOWNLOADING,
        awaits_blobs=best.is_awaiting,
        is_quiet=_rest(view, session) >= QUIET,
        percent=best.percent,
    )


def decide(instance: Instance, pulls: Sequence[Pull]) -> Pull | None:
    """Return the pull from which the instance's state follows from now on; None if nothing changes.

    The pull that has progressed furthest counts. A node that has an image keeps it until it has that of a
    newer version, even if other tokens are minted meanwhile. If it was inferred from a session that the node
    has the image, only a later request in this session takes that back: not what other sessions request of
    the same blobs.

    Args:
        instance: The instance as it is.
        pulls: Its open pulls and those that ended since the last time, the newest first.
    """
    usable = [pull for pull in pulls if pull.status.state is not None]
    own = next((pull for pull in usable if pull.token_id == instance.token_id), None)
    best = max(usable, key=_progress, default=None)
    if instance.state not in HOLDING:
        as_it_is = own is not None and best is not None and _state_of(best) == _state_of(instance)
        return None if as_it_is else best
    if best is not None and best.status.known_by is not None and best.version > instance.version:
        return best
    if instance.state is not InstanceState.CREATING or instance.known_by not in _INFERRED:
        return None
    having = [pull for pull in usable if _is_for(pull, instance) and pull.status.known_by]
    surest = max(having, key=lambda pull: _SURE.index(pull.status.known_by), default=None)
    if surest is not None:
        surer = _SURE.index(surest.status.known_by) > _SURE.index(instance.known_by)
        return surest if surer or (own is not None and own not in having) else None
    if own is None:
        return None
    is_taken_back = own.status.awaits_blobs or (
        instance.known_by is KnownBy.QUIET and not own.status.is_quiet
    )
    return best if is_taken_back else None


def is_watched(instance: Instance, pulls: Sequence[Pull]) -> bool:
    """Return whether an open pull can still change the instance, or show which blobs its node got."""
    if instance.state not in HOLDING:
        return True
    same = [pull.status for pull in pulls if _is_for(pull, instance)]
    is_known = any(status.is_certain and status.known_by is KnownBy.DELIVERED for status in same)
    open_ = [pull for pull in pulls if not pull.status.has_ended]
    return any(
        pull.version > instance.version or (_is_for(pull, instance) and not is_known) for pull in open_
    )


_INFERRED: Final = (KnownBy.DELIVERED, KnownBy.QUIET)
_SURE: Final = (None, KnownBy.QUIET, KnownBy.DELIVERED, KnownBy.REPORTED)
_STATES: Final = (InstanceState.ALLOCATING, InstanceState.DOWNLOADING, InstanceState.CREATING)


def _is_for(pull: Pull, instance: Instance) -> bool:
    """Return whether a pull is for the version that a node has."""
    return pull.version == instance.version or pull.token_id == instance.token_id


def _state_of(it: Pull | Instance) -> tuple[InstanceState | None, int]:
    return (it.state if isinstance(it, Instance) else it.status.state), it.version


def _progress(pull: Pull) -> tuple[int, int, float, int]:
    """Return the sort key of a pull: the furthest pull has the largest one."""
    status = pull.status
    state = _STATES.index(status.state) if status.state else -1
    return state, pull.version, status.percent, _SURE.index(status.known_by)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What a session delivered, compared with what one platform needs.

    Attributes:
        is_delivered: Whether all of it was delivered in this session.
        is_present: Whether all of it was delivered to the node, now or earlier.
        is_awaiting: Whether the session requested a missing blob and did not get it to its end.
        is_possible: Whether the node may have all of it: it has the config, and awaits no blob.
    """

    is_delivered: bool
    is_present: bool
    is_awaiting: bool
    is_possible: bool
    percent: float


def _compare(session: SessionView, platform: PlatformBlobs, had: Collection[str]) -> _Comparison:
    blobs = {key: session.blobs.get(key) or BlobProgress(size, 0) for key, size in platform.sizes.items()}
    kept = {key for key, blob in blobs.items() if key in had and not blob.requested}
    whole = {key for key, blob in blobs.items() if blob.whole}
    missing = [blob for key, blob in blobs.items() if key not in whole | kept]
    total = sum(platform.sizes.values())
    has = sum(blob.size_bytes if key in kept else blob.delivered_bytes for key, blob in blobs.items())
    # A client that resumes a blob of an earlier session requests it from its middle to its end.
    is_awaiting = any(blob.requested and not blob.reached_end for blob in missing)
    return _Comparison(
        is_delivered=0 < len(blobs) == len(whole),
        is_present=bool(blobs) and not missing,
        is_awaiting=is_awaiting,
        is_possible=platform.config in whole | kept and not is_awaiting,
        percent=min(100.0, round(100 * has / total, 1)) if total else 0.0,
    )


def _infer(view: TokenView, session: SessionView, found: Sequence[_Comparison]) -> KnownBy | None:
    """Return how it is known that a node has an image that this session did not deliver completely."""
    rest = _rest(view, session)
    if rest >= REST and any(each.is_present for each in found):
        return KnownBy.DELIVERED
    return KnownBy.QUIET if rest >= QUIET and any(each.is_possible for each in found) else None


def _rest(view: TokenView, session: SessionView) -> timedelta:
    """Return the time since the last request; 0 while one is answered, without end after the session."""
    if session.running:
        return timedelta(0)
    return timedelta.max if view.state is TokenState.EXPIRED else view.read_at - session.last_seen


def delivered_in(views: Sequence[TokenView]) -> tuple[set[str], set[str]]:
    """Return the keys of the blobs that sessions delivered in full, and of those they only began."""
    blobs = [blob for view in views if view.session for blob in view.session.blobs.items()]
    whole = {key for key, blob in blobs if blob.whole}
    return whole, {key for key, blob in blobs if blob.requested} - whole
