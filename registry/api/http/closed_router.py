"""Start-up check that all routes of an application are of one kind, so that none bypasses its checks."""

from collections.abc import Awaitable, Callable

from aiohttp import web


def closed_to(kind: type | tuple[type, ...], advice: str) -> Callable[[web.Application], Awaitable[None]]:
    """Return a start-up hook that refuses routes whose handlers are not methods of `kind`.

    Args:
        kind: Class or classes whose methods are the handlers.
        advice: How to declare a refused route.
    """

    async def check(app: web.Application) -> None:
        for route in app.router.routes():
            owner = getattr(route.handler, "__self__", None)
            made = issubclass(owner, kind) if isinstance(owner, type) else isinstance(owner, kind)
            if not made:
                path = route.resource.canonical if route.resource else "?"
                message = f"{route.method} {path} has a plain handler. {advice}"
                raise RuntimeError(message)

    return check
