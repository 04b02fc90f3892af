"""Applications whose routes are all made in one way, so that none skips what every route has to pass."""

from collections.abc import Awaitable, Callable

from aiohttp import web


def closed_to(kind: type, advice: str) -> Callable[[web.Application], Awaitable[None]]:
    """Make a start-up hook that refuses routes whose handlers are no methods of `kind`.

    Args:
        kind: The class that answers for every route.
        advice: What to do about a route that was added past it.
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
