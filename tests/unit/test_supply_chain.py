"""Audit of the lock file, and bills of materials."""

import tomllib

from tools.audit import ROOT, vulnerable
from tools.sbom import debian_packages, distribution

_ADVISORY = {"package": "pyjwt", "id": "CVE-2026-32597", "affected": "<2.12.0", "summary": "unknown headers"}
_LOCKED = {each["name"]: each["version"] for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}


def test_an_affected_version_is_reported_with_its_advisory() -> None:
    found = list(vulnerable({"pyjwt": "2.11.0"}, [_ADVISORY]))
    assert found == ["pyjwt 2.11.0: CVE-2026-32597: unknown headers"]


def test_a_fixed_or_absent_package_is_not_reported() -> None:
    assert list(vulnerable({"pyjwt": "2.12.0"}, [_ADVISORY])) == []
    assert list(vulnerable({"aiohttp": "1.0"}, [_ADVISORY])) == []


def test_each_advisory_names_a_locked_package() -> None:
    advisories = tomllib.loads((ROOT / "tools/advisories.toml").read_text())["advisory"]
    assert {entry["package"] for entry in advisories} <= _LOCKED.keys()


def test_the_bill_of_materials_lists_the_locked_versions() -> None:
    bill = distribution()
    components = {component["name"]: component for component in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert {"aiohttp", "cryptography", "pyjwt", "redis", "opentelemetry-sdk"} <= components.keys()
    assert {name: each["version"] for name, each in components.items()}.items() <= _LOCKED.items()
    assert "pytest" not in components
    assert components["aiohttp"]["purl"] == f"pkg:pypi/aiohttp@{_LOCKED['aiohttp']}"
    assert bill == distribution()


def test_installed_debian_packages_are_components() -> None:
    status = (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u13\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1:2.0\n\n"
        "Package: passwd\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:4.13+dfsg1-1\n"
    )
    assert [each["purl"] for each in debian_packages(status)] == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64",
        "pkg:deb/debian/passwd@1%3A4.13%2Bdfsg1-1?arch=amd64",
    ]
