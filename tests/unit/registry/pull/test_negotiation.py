import pytest

from registry.oci.mediatypes import OCI_INDEX, OCI_MANIFEST
from registry.pull.negotiation import accepts


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["nonsense"],
        ["*/*"],
        ["application/*"],
        [OCI_INDEX.upper()],
        [f"text/html, {OCI_INDEX};q=0.001"],
        ["text/html", OCI_INDEX],
        [f"{OCI_INDEX}; q=1", "*/*;q=0"],
        [f"{OCI_INDEX};charset=utf-8"],
    ],
)
def test_a_client_takes_what_any_of_its_lines_names(lines: list[str]) -> None:
    assert accepts(lines, OCI_INDEX)


@pytest.mark.parametrize(
    "lines",
    [[OCI_MANIFEST], ["text/*"], [f"{OCI_INDEX};q=0", "*/*"], ["application/*;q=0.0", "*/*"], ["*/*;q=0"]],
)
def test_the_most_specific_range_decides_what_a_client_does_not_take(lines: list[str]) -> None:
    assert not accepts(lines, OCI_INDEX)
