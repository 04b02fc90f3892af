import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import ChallengeFormatError
from registry.upstream.challenge import Challenge, parse_challenges, read_challenges

TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUE = st.text(string.ascii_letters + ' \t\\,="\u00e4\U00010000', max_size=20)
SPACE = st.text(" \t", max_size=2)
TOKEN68 = st.from_regex(r"[A-Za-z0-9._~+/-]{1,20}={0,2}", fullmatch=True)


def quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def challenges(draw: st.DrawFn) -> tuple[str, list[Challenge]]:
    """Draw a header by the grammar, with what it means."""
    texts, meanings = [], []
    for _ in range(draw(st.integers(1, 3))):
        scheme = draw(TOKEN)
        if draw(st.booleans()):
            params = draw(st.dictionaries(TOKEN.map(str.lower), VALUE, max_size=3))
            pairs = [
                f"{draw(st.sampled_from([name, name.upper()]))}{draw(SPACE)}={draw(SPACE)}{quote(value)}"
                for name, value in params.items()
            ]
            glue = f"{draw(SPACE)},{draw(SPACE)}"
            texts.append(f"{scheme} {glue.join(pairs)}" if pairs else scheme)
            meanings.append(Challenge(scheme.lower(), params))
        else:
            token68 = draw(TOKEN68)
            texts.append(f"{scheme} {token68}")
            meanings.append(Challenge(scheme.lower(), {}, token68))
    return draw(st.sampled_from([", ", ",", " ,, "])).join(texts), meanings


@given(challenges())
def test_every_header_of_the_grammar_is_understood(drawn: tuple[str, list[Challenge]]) -> None:
    text, meanings = drawn
    assert list(parse_challenges([text])) == meanings


@given(st.text(max_size=80))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        found = parse_challenges([text])
    except ChallengeFormatError:
        return
    assert all(challenge.scheme == challenge.scheme.lower() for challenge in found)


def test_a_registrys_bearer_challenge_is_read() -> None:
    header = (
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
        'scope="repository:library/alpine:pull,push",error="invalid_token"'
    )
    (challenge,) = parse_challenges([header])
    assert challenge.scheme == "bearer"
    assert challenge.params["realm"] == "https://auth.docker.io/token"
    assert challenge.params["scope"] == "repository:library/alpine:pull,push"


def test_challenges_of_several_headers_and_of_one_are_the_same() -> None:
    basic, bearer = 'Basic realm="a, b"', "Bearer realm=x, service=y"
    assert parse_challenges([basic, bearer]) == parse_challenges([f"{basic}, {bearer}"])
    assert [c.scheme for c in parse_challenges([basic, bearer])] == ["basic", "bearer"]


def test_escapes_in_quoted_strings_are_undone() -> None:
    (challenge,) = parse_challenges([r'Basic realm="a \"quoted\" \\ thing"'])
    assert challenge.params["realm"] == r'a "quoted" \ thing'


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="open',
        'Bearer realm="a" service="b"',
        'Bearer realm="a", realm="b"',
        'Bearer realm="a", REALM="b"',
        "Bearer realm=,x==",
        'Bearer ="a"',
        '"Bearer" realm=a',
        "Bearer re alm=a=b",
        "B\u00e4rer x",
        "Bearer " + "x" * 20_000,
    ],
)
def test_what_is_outside_the_grammar_is_refused(header: str) -> None:
    with pytest.raises(ChallengeFormatError):
        parse_challenges([header])


def test_no_header_is_no_challenge() -> None:
    assert parse_challenges([]) == ()
    assert parse_challenges(["", " , "]) == ()


REALM = "https://r.example/token"


@pytest.mark.parametrize(
    ("header", "offers"),
    [
        (f"Bearer realm={REALM},service=r", [("bearer", {"realm": REALM, "service": "r"})]),
        (f"Bearer realm='{REALM}',service='r'", [("bearer", {"realm": REALM, "service": "r"})]),
        (f'Bearer realm="{REALM}', [("bearer", {"realm": REALM})]),
        (f'Bearer realm="{REALM}" service="r"', [("bearer", {"realm": REALM, "service": "r"})]),
        (f'Bearer realm="{REALM}";service="r"', [("bearer", {"realm": REALM, "service": "r"})]),
        (f'Bearer realm="{REALM}", realm="b"', [("bearer", {"realm": REALM})]),
        (f'Bearer realm = "{REALM}" ,service = r x', [("bearer", {"realm": REALM, "service": "r"})]),
        (f'bearer REALM={REALM} SCOPE="a b"', [("bearer", {"realm": REALM, "scope": "a b"})]),
        (f"Bearer realm={REALM}, Basic realm=x", [("bearer", {"realm": REALM}), ("basic", {"realm": "x"})]),
        ("Basic realm=/", [("basic", {"realm": "/"})]),
        ("Basic realm=My Registry", [("basic", {"realm": "My"})]),
        ('Basic realm="open', [("basic", {"realm": "open"})]),
        ("BASIC realm=a b", [("basic", {"realm": "a"})]),
        ("Negotiate\tx, Basic realm=/", [("basic", {"realm": "/"})]),
        ("Bearer realm=,x==", [("bearer", {})]),
        ("Digest realm=/", []),
        ('"Bearer" realm=a', []),
        ('Bearerrealm="x', []),
        ("<html>", []),
    ],
)
def test_what_others_read_outside_the_grammar_is_read(
    header: str, offers: list[tuple[str, dict[str, str]]]
) -> None:
    assert [(each.scheme, dict(each.params)) for each in read_challenges([header])] == offers


def test_a_header_outside_the_grammar_leaves_the_others_as_they_are() -> None:
    found = read_challenges(["Digest realm=/", 'Basic realm="a, b"', "Bearer realm=/"])
    assert [(each.scheme, each.params["realm"]) for each in found] == [("basic", "a, b"), ("bearer", "/")]


@given(challenges())
def test_what_the_grammar_allows_is_read_as_it_says(drawn: tuple[str, list[Challenge]]) -> None:
    text, meanings = drawn
    assert list(read_challenges([text])) == meanings


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_headers_are_read(headers: list[str]) -> None:
    assert all(each.scheme == each.scheme.lower() for each in read_challenges(headers))
    with pytest.raises(ChallengeFormatError):
        read_challenges([*headers, "x" * 20_000])
