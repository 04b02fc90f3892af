from tests.conformance.report import ROOT, totals


def test_every_check_of_the_conformance_report_passed_and_the_readme_tells_how_many() -> None:
    passed, total = totals()
    assert passed == total > 100
    assert f"{passed} of {total} read-only checks" in (ROOT / "README.md").read_text()
