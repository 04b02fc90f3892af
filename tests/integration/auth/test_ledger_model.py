"""The ledger against a model of it, on the real server, under any order of events.

Time is moved by rewriting the times in a token's hash. Limits end in half seconds and steps do not, so no
comparison is ever close. Answers are lost by asking twice. The server fails over by following another for
an instant: promoted again, it has a new replication history, as a promoted replica has.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from auth.errors import Cause, RefusedError
from auth.ledger import LedgerLimits, RedisTokenLedger
from auth.records import ImageGrant, TokenState
from tests.support.ledgers import CONFIG, IMAGE, LAYER, digest_of, new_token, some_id
from tests.support.redis_server import running_server

SIZES = {CONFIG: 4, LAYER: 12}
LIMITS = LedgerLimits(
    leeway_s=30.5,
    grace_s=30.5,
    idle_s=400.5,
    base_s=600.5,
    lease_s=60.5,
    cap_s=3600.5,
    keep_s=10**6,
    budget_slack_bytes=5,
)
BUDGET = 3 * 16 + 5
TTL_S = 600
_TRAVEL = """
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local field, value = flat[i], flat[i + 1]
  if string.find(' mi ex ra ls dl fa le en ', ' ' .. field .. ' ', 1, true) then
    redis.call('HSET', KEYS[1], field, string.format('%.0f', tonumber(value) - ARGV[1]))
  elseif string.sub(field, 1, 2) == 'r:' then
    local till, rest = string.match(value, '^(%d+)( .*)$')
    redis.call('HSET', KEYS[1], field, string.format('%.0f', tonumber(till) - ARGV[1]) .. rest)
  end
end
"""


def _spans(blob: str) -> st.SearchStrategy[tuple[str, tuple[int, int]]]:
    size = SIZES[blob]
    cut = st.integers(1, size - 1)
    return st.one_of(
        st.just((0, size)),
        cut.map(lambda at: (0, at)),
        cut.map(lambda at: (at, size)),
        st.tuples(st.integers(0, size - 1), st.integers(1, size)).filter(lambda span: span[0] < span[1]),
    ).map(lambda span: (blob, span))


spans = st.one_of(_spans(CONFIG), _spans(LAYER))


@dataclass
class Response:
    blob: str
    start: int
    length: int
    lease_until: float
    sent: int = 0


@dataclass
class Model:
    """One token, as docs/tokens.md describes it."""

    replicated: bool = False
    failed_over: bool = False
    fenced: bool = False
    now: float = 0
    state: TokenState = TokenState.MINTED
    sid: str | None = None
    redeemed_at: float = 0
    deadline: float = 0
    last_seen: float = 0
    last_end: float = 0
    whole_at: float | None = None
    delivered: int = 0
    covered: dict[str, set[int]] = field(default_factory=lambda: {blob: set() for blob in SIZES})
    running: dict[str, Response] = field(default_factory=dict)

    def settle(self) -> None:
        if self.state is TokenState.MINTED and self.now > TTL_S + LIMITS.leeway_s:
            self.state = TokenState.EXPIRED
        elif self.state is TokenState.MINTED and self.replicated and self.failed_over:
            self.state, self.fenced = TokenState.EXPIRED, True
        if self.state is not TokenState.ACTIVE or any(
            r.lease_until > self.now for r in self.running.values()
        ):
            return
        if self.whole_at is not None and self.now > max(self.whole_at, self.last_end) + LIMITS.grace_s:
            self.state = TokenState.DONE
        elif self.now > self.deadline or self.now > self.last_seen + LIMITS.idle_s:
            self.state = TokenState.EXPIRED

    @property
    def capped(self) -> bool:
        return self.now > self.redeemed_at + LIMITS.cap_s

    @property
    def spent(self) -> int:
        return self.delivered + sum(r.length - r.sent for r in self.running.values())

    def redeem(self, node: str, sid: str) -> Cause | None:
        self.settle()
        if node != "node-1":
            return Cause.WRONG_NODE
        if self.state is TokenState.MINTED:
            self.state, self.sid, self.redeemed_at = TokenState.ACTIVE, sid, self.now
            self.deadline = self.now + LIMITS.base_s
        elif self.state is TokenState.REVOKED:
            return Cause.REVOKED
        elif self.state is not TokenState.ACTIVE or self.capped:
            if self.sid is not None:
                return Cause.REPLAYED
            return Cause.FENCED if self.fenced else Cause.EXPIRED
        self.last_seen = self.now
        return None

    def begin(self, sid: str | None, response_id: str, response: Response) -> Cause | None:
        self.settle()
        if self.state is TokenState.REVOKED:
            return Cause.REVOKED
        if self.state is not TokenState.ACTIVE or self.sid != sid or self.capped:
            return Cause.SESSION_OVER
        if response.blob not in SIZES:
            return Cause.OUTSIDE_SCOPE
        if self.spent + response.length > BUDGET:
            return Cause.OVER_BUDGET
        self.last_seen = self.now
        self.running[response_id] = replace(response, lease_until=self.now + LIMITS.lease_s)
        return None

    def report(self, response_id: str, sent: int, *, ended: bool) -> Cause | None:
        response = self.running[response_id]
        if sent > response.sent:
            self.last_seen = self.now
            moved = min(self.now + LIMITS.base_s, self.redeemed_at + LIMITS.cap_s)
            self.deadline = max(self.deadline, moved)
        self.delivered += sent - response.sent
        self.covered[response.blob] |= set(range(response.start, response.start + sent))
        if self.whole_at is None and all(len(self.covered[blob]) == size for blob, size in SIZES.items()):
            self.whole_at = self.now
        response.sent, response.lease_until = sent, self.now + LIMITS.lease_s
        if ended:
            del self.running[response_id]
            self.last_seen = self.last_end = self.now
        return Cause.REVOKED if self.state is TokenState.REVOKED else None

    def end(self, state: TokenState) -> None:
        self.settle()
        open_ = self.state in {TokenState.MINTED, TokenState.ACTIVE}
        alive = any(r.lease_until > self.now for r in self.running.values())
        if open_ or (state is TokenState.REVOKED and alive):
            self.state = state


class Instant:
    """The real server, asked synchronously: what a coroutine awaits of it is there at once."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    async def evalsha(self, *args: Any) -> Any:  # noqa: ANN401
        return self.redis.evalsha(*args)

    async def eval(self, *args: Any) -> Any:  # noqa: ANN401
        return self.redis.eval(*args)


class LedgerMachine(RuleBasedStateMachine):
    redis: ClassVar[Redis]

    @initialize(redeemed=st.sampled_from([True, True, True, False]), replicated=st.booleans())
    def mint(self, redeemed: bool, replicated: bool) -> None:  # noqa: FBT001
        self.ledger = RedisTokenLedger(Instant(self.redis), LIMITS, replicated=replicated)  # type: ignore[arg-type]
        self.model = Model(replicated)
        image = ImageGrant(IMAGE.digest, sum(SIZES.values()), SIZES)
        self.token = new_token(ttl_s=TTL_S, image=image, group_id=some_id())
        self.run(self.ledger.mint(self.token))
        if redeemed:
            self.redeem(node="node-1", lost=False)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        """Run a coroutine that never has to wait, within the task that the whole test is."""
        try:
            call.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("the call waits")

    def cause(self, call: Coroutine[Any, Any, Any]) -> Cause | None:
        try:
            self.run(call)
        except RefusedError as refusal:
            return refusal.cause
        return None

    @rule(
        node=st.sampled_from(["node-1"] * 4 + ["node-2"]),
        lost=st.booleans(),
    )
    def redeem(self, node: str, lost: bool) -> None:  # noqa: FBT001
        sid = some_id()
        expected = self.model.redeem(node, sid)
        for _ in range(2 if lost else 1):
            assert self.cause(self.ledger.redeem(self.token.token_id, node, sid)) is expected
        if expected is None:
            session = self.run(self.ledger.redeem(self.token.token_id, node, sid))
            assert session.session_id == self.model.sid
            assert session.opened == (self.model.sid == sid)

    def try_to_begin(self, blob: str, span: tuple[int, int], *, own: bool = True) -> str | None:
        response_id, sid = some_id(), self.model.sid if own else "another"
        response = Response(blob, span[0], span[1] - span[0], 0)
        expected = self.model.begin(sid, response_id, response)
        call = self.ledger.begin(
            self.token.token_id, sid or "none", response_id, blob=blob, length_bytes=response.length
        )
        assert self.cause(call) is expected
        return response_id if expected is None else None

    def tell(self, response_id: str, sent: int, *, ended: bool, lost: bool = False, unread: int = 0) -> None:
        response = self.model.running[response_id]
        unread = min(unread, response.length - sent)
        told = {"blob": response.blob, "start": response.start, "length": response.length, "unread": unread}
        expected = self.model.report(response_id, sent, ended=ended)
        for first in (True, False) if lost else (True,):
            call = self.ledger.report(
                self.token.token_id,
                response_id,
                sent=sent + unread,
                ended=ended,
                **told,  # type: ignore[arg-type]
            )
            assert self.cause(call) is expected or (ended and not first)

    @rule(part=spans, own=st.sampled_from([True, True, True, False]))
    def begin(self, part: tuple[str, tuple[int, int]], own: bool) -> None:  # noqa: FBT001
        self.try_to_begin(*part, own=own)

    @rule(blob=st.just(digest_of("x")))
    def begin_outside(self, blob: str) -> None:
        self.try_to_begin(blob, (0, 4))

    @rule(part=spans, cut=st.sampled_from([0, 0, 0, 1, 3]))
    def deliver(self, part: tuple[str, tuple[int, int]], cut: int) -> None:
        if (response_id := self.try_to_begin(*part)) is not None:
            length = self.model.running[response_id].length
            self.tell(response_id, max(0, length - cut), ended=True)

    @precondition(lambda self: self.model.running)
    @rule(
        pick=st.integers(0, 99),
        part=st.sampled_from([0, 1, 5, 12]),
        unread=st.sampled_from([0, 0, 2]),
        ended=st.booleans(),
        lost=st.booleans(),
    )
    def report(self, pick: int, part: int, unread: int, ended: bool, lost: bool) -> None:  # noqa: FBT001
        response_id = sorted(self.model.running)[pick % len(self.model.running)]
        response = self.model.running[response_id]
        sent = min(response.length, response.sent + part)
        self.tell(response_id, sent, ended=ended, lost=lost, unread=unread)

    @rule(state=st.sampled_from([TokenState.DONE, TokenState.REVOKED]), rarely=st.sampled_from(range(12)))
    def end(self, state: Any, rarely: int) -> None:  # noqa: ANN401
        if rarely == 7:
            self.model.end(state)
            self.run(self.ledger.end(self.token.token_id, state))

    @rule(rarely=st.sampled_from(range(12)))
    def revoke_group(self, rarely: int) -> None:
        if rarely == 7 and self.model.state in {TokenState.MINTED, TokenState.ACTIVE}:
            self.model.end(TokenState.REVOKED)
            assert self.run(self.ledger.revoke_group(self.token.group_id)) == 1

    @rule(order=st.permutations(list(SIZES)), cut=st.sampled_from([0, 0, 0, 1]))
    def deliver_all(self, order: list[str], cut: int) -> None:
        for blob in order:
            self.deliver(part=(blob, (0, SIZES[blob])), cut=cut)

    @rule(seconds=st.sampled_from([5, 29, 35, 45, 59, 65, 70, 300, 380, 590, 640]))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds
        key = f"pt:{{{self.token.token_id}}}"
        self.redis.eval(_TRAVEL, 1, key, str(seconds * 1000))

    @rule(seconds=st.sampled_from([300, 380]), times=st.integers(2, 4))
    def trickle(self, seconds: int, times: int) -> None:
        """Deliver a little now and then, for longer than the first deadline."""
        for _ in range(times):
            self.deliver(part=(CONFIG, (0, 2)), cut=1)
            self.wait(seconds=seconds)

    @rule(rarely=st.sampled_from(range(6)))
    def fail_over(self, rarely: int) -> None:
        if rarely == 3:
            self.redis.replicaof("127.0.0.1", 1)
            self.redis.replicaof("NO", "ONE")
            self.redis.script_flush()
            self.model.failed_over = True

    @precondition(lambda self: self.model.running)
    @rule(seconds=st.sampled_from([45, 300, 590]), times=st.integers(2, 9))
    def stay(self, seconds: int, times: int) -> None:
        """Wait for long while one response runs on without progress."""
        response_id = min(self.model.running)
        for _ in range(times):
            self.wait(seconds=seconds)
            self.tell(response_id, self.model.running[response_id].sent, ended=False)

    @invariant()
    def both_agree(self) -> None:
        self.model.settle()
        view = self.run(self.ledger.show(self.token.token_id))
        assert view.state is self.model.state
        if view.session is None:
            assert self.model.sid is None
            return
        assert view.session.session_id == self.model.sid
        assert view.session.bytes_delivered == self.model.delivered <= BUDGET
        assert view.session.bytes_covered == sum(map(len, self.model.covered.values()))
        assert view.session.running == sum(
            r.lease_until > self.model.now for r in self.model.running.values()
        )


async def test_the_ledger_does_what_its_model_does_in_any_order_of_events(program: Path) -> None:
    with running_server(program, "--appendonly", "no") as server:
        LedgerMachine.redis = Redis(unix_socket_path=server.url.removeprefix("unix://"))
        with LedgerMachine.redis:
            run_state_machine_as_test(
                LedgerMachine,
                settings=settings(
                    max_examples=500,
                    stateful_step_count=24,
                    deadline=None,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
