from tests.conformance.report import ROOT, totals


def test_the_conformance_report_has_no_failure_and_readme_the_count() -> None:
    passed, total = totals()
    assert passed == total > 100
    assert f"{passed} of {total} read-only checks" in (ROOT / "README.md").read_text()
