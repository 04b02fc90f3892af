"""Rendering of templates, and the response headers of all pages."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from registry.model.durations import readable_duration
from registry.portal import messages
from registry.portal.assets import static_addresses
from registry.portal.charts import bar
from registry.portal.sessions import SignedInUser
from registry.sizes import readable_bytes

# Forbid inline scripts and styles, content from other origins, and framing.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        # With `no-referrer`, browsers would send forms with `Origin: null`.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), clipboard-write=(self)",
        "Cache-Control": "no-store",
        "Vary": "Cookie, HX-Request",
    }
)
_SHORT_HEX: Final = 12


class Pages:
    """Renders pages and their self-refreshing parts."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("registry.portal"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            actor=messages.actor_shown,
            bar=bar,
            bytes=readable_bytes,
            duration=readable_duration,
            cause=messages.cause_sentence,
            event=messages.event_sentence,
            fact=messages.fact,
            instant=instant,
            label=messages.label,
            sentence=sentence,
            short=short_digest,
        )
        self._templates.globals["static"] = static_addresses()

    def page(
        self,
        name: str,
        visitor: SignedInUser | None = None,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] = MappingProxyType({}),
        **facts: Any,  # noqa: ANN401 (a template's variables)
    ) -> web.Response:
        """Render a whole page."""
        text = self._render(name, visitor, facts)
        return web.Response(
            text=text, status=status, content_type="text/html", headers={**HEADERS, **headers}
        )

    def part(self, name: str, visitor: SignedInUser, *, url: str, every_s: int, **facts: Any) -> "Part":  # noqa: ANN401
        """Render a part of a page that refreshes itself.

        Args:
            url: URL of the part.
            every_s: Seconds between refreshes; 0 means never.
        """
        inner = Markup(self._render(name, visitor, facts))  # noqa: S704 (rendered with escaping)
        seen = hashlib.sha256(inner.encode()).hexdigest()[:16]
        around = {"inner": inner, "seen": seen, "url": url, "every_s": every_s}
        return Part(seen, Markup(self._render("part.html", visitor, around)))  # noqa: S704

    def live(
        self,
        request: web.Request,
        visitor: SignedInUser,
        page: str,
        part: str,
        *,
        every_s: int,
        **facts: Any,  # noqa: ANN401 (a template's variables)
    ) -> web.Response:
        """Render a page with a self-refreshing part, or only that part if the request is a refresh.

        An unchanged part gets 204, which leaves the page as it is: focus and selection stay, and screen
        readers announce nothing.
        """
        url = str(request.rel_url.without_query_params("seen"))
        rendered = self.part(part, visitor, url=url, every_s=every_s, **facts)
        if "HX-Request" not in request.headers:
            return self.page(page, visitor, live=rendered.html, **facts)
        if request.query.get("seen") == rendered.seen:
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=HEADERS)
        return web.Response(text=rendered.html, content_type="text/html", headers=HEADERS)

    def _render(self, name: str, visitor: SignedInUser | None, facts: Mapping[str, Any]) -> str:
        return self._templates.get_template(name).render(visitor=visitor, **facts)


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a page, with a hash of its content."""

    seen: str
    html: Markup


def instant(time: datetime) -> Markup:
    """Format a time in UTC as a `time` element. The script adds the user's local time, and how long ago."""
    aware = time.astimezone(UTC)
    text = f"{aware:%d %b %Y, %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        aware.isoformat(timespec="seconds"), text, text
    )


def sentence(text: str) -> str:
    """Capitalize the first letter of a text and leave the rest unchanged."""
    return text[:1].upper() + text[1:]


def short_digest(digest: str) -> str:
    """Shorten a digest for display."""
    return digest.partition(":")[2][:_SHORT_HEX]
