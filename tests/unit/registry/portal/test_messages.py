from datetime import UTC, datetime

import pytest

from auth.errors import Cause
from registry.errors import ImportFailedError
from registry.portal.messages import cause_sentence, event_sentence, failure
from registry.portal.pages import instant
from registry.sizes import readable_bytes


def kinds(error: type[ImportFailedError]) -> set[str]:
    own = {error.reason} if hasattr(error, "reason") else set()
    return own.union(*(kinds(each) for each in error.__subclasses__()))


@pytest.mark.parametrize("reason", sorted(kinds(ImportFailedError)))
def test_every_reason_for_which_imports_fail_says_what_to_do(reason: str) -> None:
    told = failure(f"{reason}: 127.0.0.1 has no image x:9: check its spelling")
    assert told.reason == reason
    assert told.sentence == "127.0.0.1 has no image x:9: check its spelling"
    assert told.advice


def test_a_description_without_a_known_reason_is_shown_whole() -> None:
    assert failure("damaged: a stored blob does not verify").sentence.startswith("damaged: ")


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_of_a_refusal_has_words(cause: Cause) -> None:
    assert cause_sentence(cause.value) != cause.value


def test_an_event_without_words_is_shown_by_its_type() -> None:
    assert event_sentence("something.new") == "something.new"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (25_200_000, "25.2 MB"),
        (999_960, "1.0 MB"),
        (123_456_789_012, "123 GB"),
    ],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert readable_bytes(count) == text


def test_times_are_said_in_utc() -> None:
    shown = instant(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    text = "02 Jan 2026, 03:04:05 UTC"
    assert shown == f'<time datetime="2026-01-02T03:04:05+00:00" title="{text}">{text}</time>'


def test_the_operator_reads_a_setting_where_a_customer_can_only_ask() -> None:
    sentence = "registry.example.com:5000 is at a private or reserved address: use another, or "
    asked = f"failed to pull: {sentence}ask the operator to allow this one"
    assert failure(asked).sentence == f"{sentence}ask the operator to allow this one"
    assert failure(asked, is_operator=True).sentence == f"{sentence}allow this one with CRISPER_EGRESS_ALLOW"
    for reason in ("failed to pull", "failed to store", "failed to authenticate", "image too large"):
        assert "the operator" not in " ".join(failure(f"{reason}: x", is_operator=True).advice)
