"""The button "Check image and credentials" of the forms for a new group and a new version."""

from dataclasses import dataclass

from registry.errors import ImportFailedError, InvalidInputError, RateLimitedError
from registry.model.groups import GroupKey
from registry.portal.guard import Form
from registry.portal.imageform import ImageForm
from registry.portal.messages import Failure, failure
from registry.portal.services import Views
from registry.portal.sessions import SignedInUser
from registry.services.image_checks import CheckedImage, reason_of
from registry.services.import_credentials import read_credential
from registry.upstream.credentials import from_registry_authentication


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of a check for display: exactly one of its fields is set.

    Attributes:
        faults: What is wrong with the form.
    """

    image: CheckedImage | None = None
    failure: Failure | None = None
    faults: tuple[str, ...] = ()


class ImageCheckViews(Views):
    """Base of the views with the button."""

    async def _check(
        self, visitor: SignedInUser, organization: str, form: Form, group: GroupKey | None = None
    ) -> Checked:
        """Check a form's image and credentials by the rules of imports. The credentials are not stored."""
        typed = ImageForm.read(form.get("image", ""))
        faults = typed.faults(form)
        if typed.reference is None or faults:
            return Checked(faults=tuple(reason for reasons in faults.values() for reason in reasons))
        try:
            credential = read_credential(from_registry_authentication, typed.authentication(form))
            await self._services.checks.count(organization)
            found = await self._services.checks.check(organization, typed.reference, credential, group=group)
        except ImportFailedError as error:
            return Checked(failure=failure(reason_of(error), is_operator=visitor.is_operator))
        except InvalidInputError as error:
            reasons = [reason for reasons in error.fields.values() for reason in reasons]
            return Checked(faults=tuple(reasons or [str(error)]))
        except RateLimitedError as error:
            return Checked(faults=(f"{error} Try again in {max(1, round(error.retry_after_s))} s.",))
        return Checked(image=found)
