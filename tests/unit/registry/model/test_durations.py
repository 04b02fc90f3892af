import pytest

from registry.model.durations import readable_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (7, "7 s"),
        (12.6, "13 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert readable_duration(seconds) == text
    assert readable_duration(90_061) == "1 d 1 h"
