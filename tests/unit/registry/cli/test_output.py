import pytest

from registry.cli import output


def test_without_a_terminal_progress_is_a_line_per_stage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with output.follow("app:1") as tell:
        for layers in (0, 1):
            for percent in range(50):
                tell(f"pulling: {layers} of 2 layers, {50 * layers + percent} %, 8.1 MB/s, 9 s left", percent)
        tell("storing", None)
        tell("ready", 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "app:1: pulling: 0 of 2 layers, 0 %, 8.1 MB/s, 9 s left"
    assert lines[-2:] == ["app:1: storing", "app:1: ready"]
    assert 4 <= len(lines) <= 6
