"""WWW-Authenticate headers outside the grammar, and registries that hide them or their images.

regclient/regclient#265 (`Basic realm=/`), genuinetools/reg#72 and devcontainers/cli#884 (Nexus),
containerd/containerd#3291 and distribution/distribution#1984 (404 instead of 401), sapcc/keppel#522,
google/go-containerregistry `pickFromMultipleChallenges` (several schemes).
"""

from tests.support.quirks.row import AUTHENTICATE, HOST, Quirk, answering, guarded, status

REALM = "{scheme}://{host}/token"
UNSUPPORTED = rf"{HOST} asks for a kind of login that is not supported"
REFUSED = rf"{HOST} refuses these credentials for app.*"

BASIC = [
    Quirk(f"Basic as {challenge!r}", guarded("basic", challenge), login=True)
    for challenge in (
        "Basic",
        "BASIC realm=x",
        "basic Realm=x",
        "Basic realm=/",
        "Basic realm=My Registry",
        "Basic realm='My Registry'",
        'Basic realm="open',
        'Basic realm="a", realm="b"',
        'Basic realm="a" charset="UTF-8"',
        'Basic realm="a",',
        'Basic realm="https://127.0.0.1/v2/"',
        "Basic realm=",
        'Negotiate, Basic realm="x"',
        "Negotiate\tx, Basic realm=/",
        "Digest realm=/, Basic realm=/",
        'Basic realm="x", Bearer',
    )
]
BEARER = [
    Quirk(f"Bearer as {challenge!r}", guarded("bearer", challenge), login=True)
    for challenge in (
        f"Bearer realm={REALM}",
        f"Bearer realm={REALM},service=s,scope=repository:app:pull",
        f"Bearer realm='{REALM}',service='s'",
        f'Bearer realm="{REALM}',
        f'Bearer realm="{REALM}" service="s" scope="repository:app:pull"',
        f'Bearer realm="{REALM}";service="s"',
        f'Bearer realm="{REALM}", realm="http://b/"',
        f'Bearer service="s", realm="{REALM}", service="t"',
        f'Bearer realm = "{REALM}" , service = "s"',
        f'BEARER REALM="{REALM}",SERVICE="s"',
        f'Bearer  realm="{REALM}",,service="s",',
        f'Bearer realm="{REALM}",service=s.example,scope=""',
        f'Bearer realm="{REALM}",service="s",scope="*"',
        f'Bearer realm="{REALM}",scope="registry:catalog:*"',
        f'Bearer realm="{REALM}",scope="repository:app:pull repository:base:pull"',
        f'Bearer realm="{REALM}?tenant=1",service="s"',
        f'Bearer realm="{REALM}",error="invalid_token",error_description="a, b=\\"c\\""',
        f'Bearer realm="{REALM}", Basic realm="x"',
        f'Basic realm="x", Bearer realm="{REALM}"',
        f'Digest nonce=/, Bearer realm="{REALM}"',
    )
]
BOTH = [
    Quirk("Basic where Bearer has no realm", guarded("basic", "Bearer", "Basic"), login=True),
    Quirk(
        "Basic where the realm is elsewhere",
        guarded("basic", 'Bearer realm="https://elsewhere.example/token"', 'Basic realm="x"'),
        login=True,
    ),
    Quirk(
        "two headers of Bearer", guarded("bearer", f'Bearer realm="{REALM}"', "Bearer realm=x"), login=True
    ),
    Quirk("an empty header before Bearer", guarded("bearer", "", f'Bearer realm="{REALM}"'), login=True),
    Quirk(
        "a broken header before Bearer",
        guarded("bearer", 'Digest realm="', f'Bearer realm="{REALM}",service="s"'),
        login=True,
    ),
]
UNREADABLE = [
    quirk
    for name, challenge in (
        ("Negotiate", "Negotiate"),
        ("Digest", 'Digest realm="x", nonce="y"'),
        ("Bearer without a realm", 'Bearer service="s"'),
        ("a text", "please sign in"),
        ("a huge header", "Bearer " + "x" * 20_000),
    )
    for quirk in (
        Quirk(f"{name}, and Basic is taken", guarded("basic", challenge), login=True),
        Quirk(f"{name}, and no Basic", guarded("bearer", challenge), REFUSED, AUTHENTICATE, login=True),
        Quirk(f"{name}, without credentials", guarded("basic", challenge), UNSUPPORTED, AUTHENTICATE),
    )
]
HIDDEN = [
    *(
        Quirk(f"{requires} hidden behind {code}", guarded(requires, hides=code), login=True)
        for requires in ("basic", "bearer")
        for code in (403, 404)
    ),
    *(
        Quirk(
            f"{requires} without a challenge at the image",
            answering(requires, tag=status(401, times=1)),
            login=True,
        )
        for requires in ("basic", "bearer")
    ),
    Quirk(
        "Bearer at /v2/, and Negotiate at the image",
        answering("bearer", tag=status(401, times=1, WWW_Authenticate="Negotiate")),
        login=True,
    ),
    Quirk(
        "Basic without a challenge anywhere",
        answering("basic", tag=status(404, times=1), v2=status(200)),
        login=True,
    ),
    Quirk(
        "Basic behind 403, and /v2/ missing",
        answering("basic", tag=status(403, times=1), v2=status(404)),
        login=True,
    ),
    Quirk(
        "no such image, asked with credentials",
        answering(tag=status(404)),
        rf"{HOST} has no image .*/app:1: check its spelling.*",
        login=True,
    ),
    Quirk(
        "no credentials where they are hidden",
        guarded("basic", hides=404),
        rf"{HOST} has no image .*/app:1: check its spelling.*",
    ),
    Quirk(
        "wrong credentials for hidden Basic",
        answering("basic", tag=status(404, times=1), every=status(401)),
        UNSUPPORTED,
        AUTHENTICATE,
        login=True,
    ),
    Quirk(
        "forbidden with credentials too", answering("", tag=status(403)), REFUSED, AUTHENTICATE, login=True
    ),
    Quirk(
        "forbidden without credentials",
        answering("", tag=status(403)),
        rf"{HOST} denies anonymous access to app.*",
        AUTHENTICATE,
    ),
    Quirk("credentials that nobody asks for", guarded(""), login=True),
    Quirk(
        "Basic refuses",
        answering("basic", tag=status(401, WWW_Authenticate="Basic")),
        REFUSED,
        AUTHENTICATE,
        login=True,
    ),
]

QUIRKS = [*BASIC, *BEARER, *BOTH, *UNREADABLE, *HIDDEN]
