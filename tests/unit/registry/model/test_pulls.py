"""When a node has an image, by what its sessions delivered: one test for each sentence, and any sequence."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from auth.records import BlobProgress, SessionView, TokenState, TokenView
from registry.model.instances import HOLDING, Instance, InstanceState, KnownBy
from registry.model.pulls import (
    QUIET,
    REST,
    PlatformBlobs,
    Pull,
    PullStatus,
    decide,
    delivered_in,
    judge,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SIZES = {"config": 10, "base": 60, "app": 30}
NEEDS = [PlatformBlobs("config", SIZES)]
WHOLE = {key: BlobProgress(size, size, requested=True, reached_end=True) for key, size in SIZES.items()}
BEGUN = BlobProgress(60, 20, requested=True)
RESUMED = BlobProgress(60, 20, requested=True, reached_end=True)
NONE = BlobProgress(60, 0)

Verdict = tuple[InstanceState | None, KnownBy | None]
ALLOCATING: Verdict = (InstanceState.ALLOCATING, None)
DOWNLOADING: Verdict = (InstanceState.DOWNLOADING, None)
DELIVERED: Verdict = (InstanceState.CREATING, KnownBy.DELIVERED)
REPORTED: Verdict = (InstanceState.CREATING, KnownBy.REPORTED)
ON_QUIET: Verdict = (InstanceState.CREATING, KnownBy.QUIET)
LAPSED: Verdict = (None, None)


def a_view(
    state: TokenState = TokenState.ACTIVE,
    blobs: Mapping[str, BlobProgress] | None = None,
    *,
    rest: timedelta = timedelta(0),
    running: int = 0,
    token_id: str = "t1",  # noqa: S107
) -> TokenView:
    unknown = {key: BlobProgress(size, 0) for key, size in SIZES.items()}
    session = SessionView("sid", NOW, NOW - rest, NOW, 0, {**unknown, **(blobs or {})}, running, 1)
    return TokenView(
        token_id=token_id,
        state=state,
        node_id="pc-1",
        organization="acme",
        group_id="group",
        repository="acme/default/app",
        image_digest="sha256:00",
        image_size=100,
        minted_at=NOW,
        expires_at=NOW,
        read_at=NOW,
        session=None if state is TokenState.MINTED else session,
    )


def of(*keys: str, **others: BlobProgress) -> Mapping[str, BlobProgress]:
    return {key: WHOLE[key] for key in keys} | others


def verdict(status: PullStatus) -> Verdict:
    return status.state, status.known_by


A, X, E, D, R = (
    TokenState.ACTIVE,
    TokenState.MINTED,
    TokenState.EXPIRED,
    TokenState.DONE,
    TokenState.REVOKED,
)
OLD = {"base"}
ALL = set(SIZES)


@pytest.mark.parametrize(
    ("view", "had", "expected"),
    [
        (a_view(X), ALL, ALLOCATING),
        (a_view(E), set(), LAPSED),
        (a_view(R), ALL, LAPSED),
        # Everything was delivered now: at once, and whatever ends the session.
        (a_view(A, of(*SIZES)), set(), DELIVERED),
        (a_view(A, of(*SIZES), running=1), set(), DELIVERED),
        (a_view(R, of(*SIZES)), set(), DELIVERED),
        # The rest was delivered in full to this node in an earlier session.
        (a_view(A, of("config", "app"), rest=REST), OLD, DELIVERED),
        (a_view(A, of("config", "app")), OLD, DOWNLOADING),
        (a_view(A, of("config", "app"), rest=REST, running=1), OLD, DOWNLOADING),
        (a_view(A, of("config"), rest=REST), OLD, DOWNLOADING),
        (a_view(A, of(), rest=REST), ALL, DELIVERED),  # HEAD only: the image is present already
        (a_view(E, of("config", "app"), rest=QUIET), OLD, DELIVERED),
        # A blob that is requested now is not present, wherever it was delivered before.
        (a_view(A, of("config", "app", base=BEGUN), rest=QUIET), OLD, DOWNLOADING),
        (a_view(E, of("config", "app", base=BEGUN), rest=QUIET), OLD, LAPSED),
        # What cannot be known: nothing was requested for a while.
        (a_view(A, of("config", "app"), rest=QUIET), set(), ON_QUIET),
        (a_view(A, of("config"), rest=QUIET), set(), ON_QUIET),
        (a_view(A, of("config"), rest=REST), set(), DOWNLOADING),
        (a_view(A, of("config", "app"), rest=QUIET, running=1), set(), DOWNLOADING),
        (a_view(A, of("config", "app", base=BEGUN), rest=QUIET), set(), DOWNLOADING),
        (a_view(A, of("config", "app", base=RESUMED), rest=QUIET), set(), ON_QUIET),
        (a_view(A, of("app"), rest=QUIET), set(), DOWNLOADING),  # without the config
        (a_view(A, of(), rest=QUIET), set(), DOWNLOADING),
        (a_view(E, of("config", "app")), set(), ON_QUIET),
        (a_view(R, of("config", "app"), rest=QUIET), set(), LAPSED),
        # The node's or the scheduler's report is certain.
        (a_view(D, of("config")), set(), REPORTED),
        (a_view(D, of(*SIZES)), set(), DELIVERED),
    ],
)
def test_a_token_says_whether_its_node_has_the_image(
    view: TokenView, had: set[str], expected: Verdict
) -> None:
    assert verdict(judge(view, NEEDS, had)) == expected


def test_progress_counts_what_the_node_has_already_unless_it_requests_it() -> None:
    seen = [
        judge(a_view(A, of("config")), NEEDS, set()).percent,
        judge(a_view(A, of("config")), NEEDS, OLD).percent,
        judge(a_view(A, of("config", base=BEGUN)), NEEDS, OLD).percent,
    ]
    assert seen == [10.0, 70.0, 30.0]


def test_of_several_platforms_one_is_enough() -> None:
    other = PlatformBlobs("arm", {"arm": 5, "base": 60})
    assert verdict(judge(a_view(A, of(*SIZES)), [other, *NEEDS], set())) == DELIVERED
    assert verdict(judge(a_view(A, of("config", "app"), rest=QUIET), [other, *NEEDS], OLD)) == DELIVERED


def test_without_its_stored_image_nothing_follows_from_quiet() -> None:
    unknown = [PlatformBlobs(None, SIZES)]
    assert verdict(judge(a_view(A, of("config", "app"), rest=QUIET), unknown, set())) == DOWNLOADING
    assert verdict(judge(a_view(A, of(*SIZES)), unknown, set())) == DELIVERED


def an_instance(state: InstanceState, known_by: KnownBy | None = None, **changes: object) -> Instance:
    made = Instance("i", "group", "pc-1", 1, "t1", state, 0, NOW, NOW, known_by)
    return replace(made, **changes)  # type: ignore[arg-type]


def a_pull(token_id: str, expected: Verdict, version: int = 1, **facts: object) -> Pull:
    return Pull(token_id, version, PullStatus(*expected, **facts))  # type: ignore[arg-type]


QUIET_ONE = an_instance(InstanceState.CREATING, KnownBy.QUIET)
GIVEN_ONE = an_instance(InstanceState.CREATING, KnownBy.DELIVERED)


@pytest.mark.parametrize(
    ("instance", "pulls", "token_id"),
    [
        # None hides another: the best counts.
        (an_instance(InstanceState.ALLOCATING), [a_pull("t2", ALLOCATING), a_pull("t1", DOWNLOADING)], "t1"),
        (an_instance(InstanceState.DOWNLOADING), [a_pull("t2", ALLOCATING), a_pull("t1", DOWNLOADING)], None),
        (an_instance(InstanceState.DOWNLOADING), [a_pull("t2", DELIVERED), a_pull("t1", DOWNLOADING)], "t2"),
        (an_instance(InstanceState.DOWNLOADING), [a_pull("t2", ALLOCATING), a_pull("t1", LAPSED)], "t2"),
        # A later request takes quiet back, in that session alone.
        (QUIET_ONE, [a_pull("t1", DOWNLOADING)], "t1"),
        (QUIET_ONE, [a_pull("t1", DOWNLOADING, is_quiet=True)], None),
        (QUIET_ONE, [a_pull("t1", DOWNLOADING, is_quiet=True, awaits_blobs=True)], "t1"),
        (QUIET_ONE, [a_pull("t2", DOWNLOADING), a_pull("t1", ON_QUIET)], None),
        (QUIET_ONE, [a_pull("t2", DOWNLOADING)], None),
        (QUIET_ONE, [a_pull("t2", DELIVERED), a_pull("t1", DOWNLOADING)], "t2"),
        (QUIET_ONE, [a_pull("t1", DELIVERED)], "t1"),
        (QUIET_ONE, [a_pull("t1", LAPSED)], None),
        # Blobs of earlier sessions: a request for one takes it back, another request does not.
        (GIVEN_ONE, [a_pull("t1", DOWNLOADING)], None),
        (GIVEN_ONE, [a_pull("t1", DOWNLOADING, awaits_blobs=True)], "t1"),
        (GIVEN_ONE, [a_pull("t1", REPORTED)], "t1"),
        # Minting and pulling again take nothing back.
        (
            an_instance(InstanceState.RUNNING, KnownBy.REPORTED),
            [a_pull("t2", DOWNLOADING), a_pull("t1", LAPSED)],
            None,
        ),
        (an_instance(InstanceState.RUNNING, KnownBy.QUIET), [a_pull("t1", DOWNLOADING)], None),
        (an_instance(InstanceState.RUNNING, KnownBy.REPORTED), [a_pull("t2", DELIVERED)], None),
        # A newer version counts when it has arrived.
        (an_instance(InstanceState.RUNNING, KnownBy.REPORTED), [a_pull("t2", DOWNLOADING, 2)], None),
        (an_instance(InstanceState.RUNNING, KnownBy.REPORTED), [a_pull("t2", ON_QUIET, 2)], "t2"),
        (an_instance(InstanceState.RUNNING, KnownBy.REPORTED, version=3), [a_pull("t2", DELIVERED, 2)], None),
    ],
)
def test_the_instance_is_as_far_as_the_best_of_its_pulls(
    instance: Instance, pulls: list[Pull], token_id: str | None
) -> None:
    following = decide(instance, pulls)
    assert (following.token_id if following else None) == token_id


@dataclass
class Token:
    """A token in the ledger, as the machine moves it."""

    view: TokenView
    version: int
    requested_at: datetime
    is_redeemed: bool = False
    delivered: dict[str, int] = field(default_factory=dict)
    has_ended: bool = False


class PullsMachine(RuleBasedStateMachine):
    """Mints, pulls, reports, requests and waits in any order; the instance is read after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.tokens: list[Token] = []
        self.had: set[str] = set()
        self.minted = 0
        self.designate()

    def designate(self) -> None:
        """Assign the node: its first token makes the instance."""
        self.instance = an_instance(InstanceState.ALLOCATING)
        self.tokens = []
        self.mint(newer=False)

    @rule(newer=st.booleans())
    def mint(self, newer: bool) -> None:  # noqa: FBT001
        version = max((token.version for token in self.tokens), default=1) + (newer and bool(self.tokens))
        before = self.instance
        self.minted += 1
        token = Token(a_view(TokenState.MINTED, token_id=f"t{self.minted}"), version, self.now)
        self.tokens.append(token)
        if before.state is InstanceState.ALLOCATING:
            self.instance = replace(before, token_id=token.view.token_id, version=version)
        self.look()
        assert self.instance.state is before.state
        assert self.instance.known_by is before.known_by

    @rule(
        pick=st.integers(0, 9), keys=st.sets(st.sampled_from(sorted(SIZES))), part=st.sampled_from([0, 5, 99])
    )
    def request(self, pick: int, keys: set[str], part: int) -> None:
        """Redeem, or continue, and request some blobs; none is a HEAD of the manifest."""
        token = self.tokens[pick % len(self.tokens)]
        if token.view.state not in {TokenState.MINTED, TokenState.ACTIVE}:
            return
        token.view = replace(token.view, state=TokenState.ACTIVE)
        token.requested_at, token.is_redeemed = self.now, True
        for key in keys:
            token.delivered[key] = min(SIZES[key], max(token.delivered.get(key, 0), part))
        before = self.instance
        self.look()
        if before.known_by is KnownBy.QUIET and before.state is InstanceState.CREATING:
            others = [pull for pull in self.pulls() if pull.status.known_by]
            own = before.token_id == token.view.token_id
            assert (self.instance.state is InstanceState.DOWNLOADING) == (own and not others)

    @rule(pick=st.integers(0, 9), state=st.sampled_from([TokenState.DONE, TokenState.REVOKED]))
    def end(self, pick: int, state: TokenState) -> None:
        token = self.tokens[pick % len(self.tokens)]
        if token.view.state is TokenState.ACTIVE:
            token.view = replace(token.view, state=state)
            before = self.instance
            self.look()
            if state is TokenState.DONE and token.version >= before.version:
                assert self.instance.state in HOLDING

    @precondition(lambda self: self.instance.state in HOLDING)
    @rule(state=st.sampled_from(HOLDING))
    def report(self, state: InstanceState) -> None:
        self.instance = replace(self.instance, state=state, known_by=KnownBy.REPORTED)
        self.look()
        assert self.instance.state is state

    @rule(seconds=st.sampled_from([1, 6, 31, 901]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for token in self.tokens:
            idle = self.now - token.requested_at > timedelta(minutes=15)
            if idle and token.view.state in {TokenState.MINTED, TokenState.ACTIVE}:
                token.view = replace(token.view, state=TokenState.EXPIRED)
        before = self.instance
        self.look()
        if before.state in HOLDING:
            assert self.instance.state in HOLDING

    def shown(self, token: Token) -> TokenView:
        blobs = {
            key: BlobProgress(SIZES[key], n, requested=True, reached_end=n == SIZES[key])
            for key, n in token.delivered.items()
        }
        made = a_view(token.view.state, blobs, rest=self.now - token.requested_at)
        session = made.session if token.is_redeemed else None
        return replace(made, token_id=token.view.token_id, session=session)

    def pulls(self) -> list[Pull]:
        open_ = [token for token in reversed(self.tokens) if not token.has_ended]
        views = [self.shown(token) for token in open_]
        whole = [delivered_in([view])[0] for view in views]
        return [
            Pull(
                view.token_id,
                token.version,
                judge(view, NEEDS, self.had.union(*(w for w in whole if w is not whole[at]))),
            )
            for at, (token, view) in enumerate(zip(open_, views, strict=True))
        ]

    def look(self) -> None:
        """Refresh the instance, as the service does."""
        pulls = self.pulls()
        best = max((pull for pull in pulls if pull.status.known_by), key=lambda p: p.version, default=None)
        following = decide(self.instance, pulls)
        if following is not None:
            status = following.status
            assert status.state is not None
            self.instance = replace(
                self.instance,
                state=status.state,
                version=following.version,
                token_id=following.token_id,
                known_by=status.known_by,
            )
        assert decide(self.instance, pulls) is None  # nothing flaps
        if best is not None:
            assert self.instance.state in HOLDING
            assert self.instance.version >= best.version
        ended = {pull.token_id for pull in pulls if pull.status.has_ended}
        for token in self.tokens:
            if token.view.token_id in ended:
                token.has_ended = True
                gained, lost = delivered_in([self.shown(token)])
                self.had = self.had - lost | gained
        if self.instance.state not in HOLDING and all(token.has_ended for token in self.tokens):
            self.designate()  # the node was released

    @invariant()
    def how_it_is_known_is_said_exactly_when_the_node_has_an_image(self) -> None:
        assert (self.instance.known_by is not None) == (self.instance.state in HOLDING)


PullsMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=20, deadline=None)
TestAnySequenceOfEvents = PullsMachine.TestCase


@pytest.mark.parametrize(
    ("again", "seconds", "known_by"), [("base", 6, KnownBy.DELIVERED), ("config", 31, KnownBy.QUIET)]
)
def test_a_session_that_requests_a_blob_again_and_ends_takes_nothing_from_another_session(
    again: str, seconds: int, known_by: KnownBy
) -> None:
    machine = PullsMachine()
    machine.request(pick=0, keys={again}, part=99)
    machine.end(pick=0, state=TokenState.REVOKED)
    later = {"app"} if known_by is KnownBy.QUIET else set(SIZES) - {again}
    machine.request(pick=0, keys=later, part=99)
    machine.wait(seconds=seconds)
    assert machine.instance.known_by is known_by
    machine.mint(newer=False)
    machine.request(pick=1, keys={again}, part=5)
    machine.end(pick=1, state=TokenState.REVOKED)
    machine.mint(newer=False)
    assert machine.instance.state is InstanceState.CREATING
