"""What the portal ships to browsers is what it says it is."""

import hashlib
import re
from importlib.resources import files

from registry.portal.assets import static_addresses

HTMX_2_0_11 = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
STATIC = files("registry.portal") / "static"
TEMPLATES = files("registry.portal") / "templates"


def test_htmx_is_the_release_that_was_reviewed() -> None:
    assert hashlib.sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == HTMX_2_0_11


def test_files_are_named_by_their_content() -> None:
    addresses = static_addresses()
    assert set(addresses) == {"htmx.min.js", "icon.svg", "portal.css", "portal.js"}
    assert addresses["htmx.min.js"] == f"/static/portal/htmx.min.js?v={HTMX_2_0_11[:12]}"


def test_no_template_marks_anything_as_safe_or_names_another_site() -> None:
    for template in TEMPLATES.iterdir():
        text = template.read_text()
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text
        assert not re.search(r"https?://", text)


def test_every_form_that_does_something_carries_a_token() -> None:
    for template in TEMPLATES.iterdir():
        for form in re.findall(r'<form[^>]*method="post".*?</form>', template.read_text(), re.DOTALL):
            returns = template.name == "signed_out.html"  # only shows the form again
            assert returns or 'name="form_token"' in form
