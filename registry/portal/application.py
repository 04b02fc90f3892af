"""Routes and set-up of the portal (docs/portal.md)."""

from aiohttp import web

from registry.portal.activity import ActivityViews
from registry.portal.assets import PREFIX, serve_asset
from registry.portal.audit import AuditViews
from registry.portal.edit import EditViews
from registry.portal.group import GroupViews
from registry.portal.group_actions import GroupActions
from registry.portal.groups import GroupsViews
from registry.portal.guard import Guard
from registry.portal.images import ImageViews
from registry.portal.new_group import NewGroupViews
from registry.portal.nodes import NodeViews
from registry.portal.openid import OpenIdSignIn, OpenIdViews
from registry.portal.organizations import OrganizationViews
from registry.portal.pages import Pages
from registry.portal.pulls import PullViews
from registry.portal.quotas import QuotaViews
from registry.portal.sboms import SbomViews
from registry.portal.services import Services
from registry.portal.sessions import PortalSessions
from registry.portal.sign_in_page import SignInPage
from registry.portal.signin import SignInViews
from registry.portal.system import SystemViews


class Portal:
    """The portal's pages.

    Args:
        sessions: Sign-in and sessions.
        services: Use-cases that the pages call.
        openid: Sign-in at the identity provider; None if there is none.
    """

    def __init__(
        self, sessions: PortalSessions, services: Services, openid: OpenIdSignIn | None = None
    ) -> None:
        self._openid = openid
        self._sessions = sessions
        self._services = services

    def mount(self, root: web.Application) -> None:
        """Add the pages to the server's application, beside its APIs."""
        pages = Pages()
        guard = Guard(self._sessions, pages)
        page = SignInPage(self._sessions, pages, self._openid.name if self._openid else "")
        root.add_routes(SignInViews(self._sessions, guard, pages, page).routes())
        if self._openid is not None:
            root.add_routes(OpenIdViews(self._sessions, guard, pages, page, self._openid).routes())
        for views in (
            GroupsViews,
            NewGroupViews,
            GroupViews,
            GroupActions,
            EditViews,
            ImageViews,
            SbomViews,
            PullViews,
            AuditViews,
            ActivityViews,
            OrganizationViews,
            QuotaViews,
            NodeViews,
            SystemViews,
        ):
            root.add_routes(views(guard, pages, self._services).routes())
        root.router.add_get(f"{PREFIX}{{name}}", serve_asset)
        root.middlewares.append(guard.lost())
