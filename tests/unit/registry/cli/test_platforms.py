"""A machine's platform, from what its kernel and its programs say."""

import platform
import struct
import sys

import pytest

from registry.cli.platforms import this_platform


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "name"),
    [
        ("x86_64", 8, "linux/amd64"),
        ("x86_64", 4, "linux/386"),
        ("i686", 4, "linux/386"),
        ("aarch64", 8, "linux/arm64"),
        ("aarch64", 4, "linux/arm/v7"),
        ("armv8l", 4, "linux/arm/v7"),
        ("armv7l", 4, "linux/arm/v7"),
        ("armv6l", 4, "linux/arm/v6"),
        ("armv5tel", 4, "linux/arm/v5"),
        ("riscv64", 8, "linux/riscv64"),
        ("ppc64le", 8, "linux/ppc64le"),
        ("s390x", 8, "linux/s390x"),
        ("abacus", 8, None),
    ],
)
def test_a_machine_knows_its_platform(
    machine: str, pointer_bytes: int, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(struct, "calcsize", lambda _format: pointer_bytes)
    monkeypatch.setattr(sys, "platform", "linux")
    found = this_platform()
    assert (str(found) if found else None) == name
