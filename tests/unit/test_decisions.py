"""The decision records (docs/adr): numbering, status, index, and the references to them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "adr"
STATUS = re.compile(r"(accepted|rejected|deprecated|superseded by \[ADR \d+\]\([^)]+\))(; [^\n]+)?")
REFERENCE = re.compile(r"\badr/(\d{4})(-[a-z0-9-]+\.md)?")
FOLDERS = ("auth", "bench", "deploy", "docs", "registry", "storage", "tests")
SUFFIXES = (".lua", ".md", ".py")
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))


def test_records_are_numbered_and_have_a_status_and_the_same_sections() -> None:
    for number, path in enumerate(RECORDS, start=1):
        text = path.read_text()
        assert path.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        assert STATUS.fullmatch(re.findall(r"^- Status: (.+)$", text, re.MULTILINE)[0]), path
        assert re.search(r"^- Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE), path
        sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert sections == ["Context", "Considered options", "Decision", "Consequences"], path


def test_the_index_has_every_record_with_its_title_and_status() -> None:
    rows = re.findall(
        r"^\| \[(\d+)\]\(([^)]+)\) \| (.+) \| (.+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE
    )
    records = []
    for path in RECORDS:
        number, title = re.findall(r"^# (\d+)\. (.+)$", path.read_text(), re.MULTILINE)[0]
        (status,) = re.findall(r"^- Status: (.+)$", path.read_text(), re.MULTILINE)
        records.append((number, path.name, title, status))
    assert rows == records


def test_every_reference_to_a_record_leads_to_one() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    references = [each for path in files for each in REFERENCE.findall(path.read_text())]
    names = {path.name for path in RECORDS}
    numbers = {name[:4] for name in names}
    assert len(references) > 20
    assert [each for each in references if each[0] not in numbers] == []
    assert [number + rest for number, rest in references if rest and number + rest not in names] == []
