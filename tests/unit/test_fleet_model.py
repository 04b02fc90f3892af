"""The model of a fleet agrees with what can be computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fleet_model import GIB, MBIT_PER_S, Costs, Delivery, Fleet, Outcome, Site, fair_rates, simulate

COSTS = Costs(0.0004, 0.0002, 0.0002, {Delivery.PLAINTEXT: 1.5 / GIB, Delivery.ENCRYPTED: 0.5 / GIB})
GBIT_PER_S = 1000 * MBIT_PER_S
LINES: dict[float, float] = {20 * MBIT_PER_S: 0.5, 500 * MBIT_PER_S: 0.5}


def run(
    delivery: Delivery, *, nodes: int = 1000, lines: dict[float, float] | None = None, **site: float
) -> Outcome:
    fleet = Fleet(nodes, 10.0, lines or LINES, 1e9, 6)
    named = {"workers": 2, "uplink": 10 * GBIT_PER_S, "edges": 4, "edge_uplink": 10 * GBIT_PER_S, **site}
    return simulate(fleet, Site(**named), COSTS, delivery)  # type: ignore[arg-type]


def test_a_wide_uplink_leaves_each_node_its_line() -> None:
    outcome = run(Delivery.ACCEL, uplink=1e15)
    assert outcome.after_s[0.5] == pytest.approx(1e9 / (500 * MBIT_PER_S), rel=0.01)
    assert outcome.after_s[0.99] == pytest.approx(1e9 / (20 * MBIT_PER_S), rel=0.01)


def test_a_narrow_uplink_sends_all_bytes_at_its_speed() -> None:
    outcome = run(Delivery.ACCEL, uplink=GBIT_PER_S)
    assert outcome.all_s == pytest.approx(1000 * 1e9 / GBIT_PER_S, rel=0.01)
    assert outcome.egress_bytes == 1000 * 1e9


def test_the_cpu_limits_direct_delivery() -> None:
    outcome = run(Delivery.PLAINTEXT, workers=1, uplink=1e15, lines={1e12: 1.0})
    assert outcome.cpu_s == pytest.approx(1000 * COSTS.start_s(6) + 1e12 * 1.5 / GIB)
    assert outcome.all_s == pytest.approx(outcome.cpu_s, rel=0.01)


def test_starts_beyond_the_cpu_wait_for_it() -> None:
    outcome = run(Delivery.ACCEL, nodes=100_000, workers=1, uplink=1e15, lines={1e12: 1.0})
    assert outcome.all_s == pytest.approx(100_000 * COSTS.start_s(6), rel=0.01)
    assert outcome.after_s[0.99] == pytest.approx(outcome.all_s - 10, rel=0.03)


def test_the_object_store_takes_the_bytes() -> None:
    outcome = run(Delivery.STORE, store_uplink=GBIT_PER_S)
    assert outcome.all_s == pytest.approx(1000 * 1e9 / GBIT_PER_S, rel=0.01)
    assert (outcome.egress_bytes, outcome.other_egress_bytes) == (0, 1000 * 1e9)


def test_edges_take_the_bytes() -> None:
    outcome = run(Delivery.EDGE, edges=4)
    assert outcome.egress_bytes == 4 * 1e9
    assert outcome.other_egress_bytes == 1000 * 1e9
    assert outcome.all_s < run(Delivery.ACCEL).all_s


def test_an_edge_sends_nothing_that_it_has_not_got() -> None:
    outcome = run(Delivery.EDGE, nodes=4, edges=4, uplink=0.1 * GBIT_PER_S, lines={1e12: 1.0})
    assert outcome.all_s == pytest.approx(4 * 1e9 / (0.1 * GBIT_PER_S), rel=0.01)


@given(
    st.lists(st.tuples(st.floats(1, 1e9), st.integers(1, 10**6)), min_size=1, max_size=6),
    st.floats(1, 1e12),
)
def test_shares_are_fair(classes: list[tuple[float, int]], capacity: float) -> None:
    rates = fair_rates(classes, capacity)
    sent = sum(rate * count for rate, (_, count) in zip(rates, classes, strict=True))
    wanted = sum(line * count for line, count in classes)
    assert sent == pytest.approx(min(capacity, wanted))
    limited = [rate for rate, (line, _) in zip(rates, classes, strict=True) if rate < line * (1 - 1e-9)]
    assert all(rate == pytest.approx(max(rates)) for rate in limited)


def test_a_million_nodes_take_little_time_to_simulate() -> None:
    outcome = run(Delivery.EDGE, nodes=1_000_000, edges=100)
    assert outcome.other_egress_bytes == 1e15
