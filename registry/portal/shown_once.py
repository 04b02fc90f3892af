"""Forms that create a secret: processed once, and the secret shown once."""

import secrets
from http import HTTPStatus
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from auth.secret import Secret
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser

_FORM_ID_BYTES: Final = 16


class SecretViews(Views):
    """Base of the views that show a new secret once."""

    def _show_secret(
        self, visitor: SignedInUser, secret: Secret, *, title: str, use: str, url: str, here: str
    ) -> web.Response:
        """Show a secret. A reload shows `url`, because the script replaces the page's own URL.

        Without the script, a reload submits the form again, and `Guard.begin` redirects to `url`.
        """
        return self._pages.page(
            "shown_once.html", visitor, secret=secret.reveal(), title=title, use=use, url=url, here=here
        )


def new_form_id() -> str:
    """Return an id for a form, so that it is processed once."""
    return secrets.token_urlsafe(_FORM_ID_BYTES)


def status_of(refusal: str) -> HTTPStatus:
    """Return the status of a page with a form that may have been refused."""
    return HTTPStatus.BAD_REQUEST if refusal else HTTPStatus.OK


def fields_of(error: ValidationError) -> set[str]:
    """Return the names of the fields that are not valid."""
    return {str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]}
