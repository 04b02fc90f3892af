"""The words that the public API's documents are made of.

Limits and patterns are those of SaladCloud's public reference; the names in quotes below are its
schemas. As there, fields that a schema does not name are ignored. A null where a field may also be
left out means the same as leaving it out.
"""

from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Secret, StringConstraints, WithJsonSchema

T = TypeVar("T")

NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$"
_LINE_PATTERN: Final = r"^.*$"


class Shape(BaseModel):
    """A document of the public API: strict about types, silent about refused values."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


Omittable = Annotated[T | None, Field(exclude_if=lambda value: value is None)]
"""A field that may be left out, and then is left out of what is written too."""

Name = Annotated[str, StringConstraints(min_length=2, max_length=63, pattern=NAME_PATTERN)]
"""Of a group, project, organization or queue ("ContainerGroupName" and its like)."""

# `,-.` is a range: comma, hyphen, full stop
DisplayName = Annotated[str, StringConstraints(min_length=2, max_length=63, pattern=r"^[ ,-.0-9A-Za-z]+$")]

Line = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=_LINE_PATTERN)]
Argument = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=_LINE_PATTERN)]
Image = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=_LINE_PATTERN)]
Path = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=_LINE_PATTERN)]

Uuid = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
    ),
    WithJsonSchema({"type": "string", "format": "uuid"}),
]

_HIDDEN: Final = Field(json_schema_extra={"writeOnly": True})

SecretLine = Annotated[Secret[Line], _HIDDEN]
"""A secret of one line; written as asterisks, so that a dump of a document is safe to store and send."""

_Credential = Annotated[str, StringConstraints(min_length=1, max_length=10000, pattern=_LINE_PATTERN)]
Credential = Annotated[Secret[_Credential], _HIDDEN]
Document = Annotated[Secret[Annotated[str, StringConstraints(min_length=1, max_length=10000)]], _HIDDEN]

Port = Annotated[int, Field(ge=1, le=65535)]
Replicas = Annotated[int, Field(ge=0, le=500)]

_ISO_3166_1_ALPHA_2: Final = (
    "ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs "
    "bt bv bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee "
    "eg eh er es et fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm "
    "hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc "
    "li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na "
    "nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw "
    "sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to "
    "tr tt tv tw tz ua ug um us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
COUNTRY_CODES: Final = frozenset(_ISO_3166_1_ALPHA_2.split())


def _country(code: str) -> str:
    if code not in COUNTRY_CODES:
        raise ValueError("write an ISO 3166-1 alpha-2 country code in lower case, such as us")
    return code


CountryCode = Annotated[
    str, AfterValidator(_country), WithJsonSchema({"type": "string", "enum": sorted(COUNTRY_CODES)})
]
