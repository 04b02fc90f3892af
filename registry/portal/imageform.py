"""Form fields for an image and its credentials. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from registry.errors import InvalidInputError, ReferenceFormatError
from registry.oci.reference import Reference
from registry.portal.credentials import CredentialForm, form_for

_PREFIXES = ("container.registry_authentication.", "container.resources.")
_RENAMED = {"container.image": "image", "restart_policy": "restart"}

Faults = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class ImageForm:
    """Input for an image, its parsed reference, and the credential form of its registry.

    Attributes:
        fault: Why the reference is invalid; empty if it is valid or if there is no input.
    """

    image: str
    reference: Reference | None
    fault: str
    credentials: CredentialForm

    @classmethod
    def read(cls, image: str) -> Self:
        """Parse the input of the image field."""
        image = image.strip()
        try:
            reference, fault = Reference.parse(image), ""
        except ReferenceFormatError as error:
            reference, fault = None, str(error) if image else ""
        return cls(image, reference, fault, form_for(reference))

    @property
    def kind(self) -> str:
        """Id of the credential form, by which the browser knows whether it is already shown."""
        return f"{self.credentials.kind} {self.credentials.registry}"

    def authentication(self, form: Mapping[str, str]) -> Mapping[str, Mapping[str, str]] | None:
        """Return the input as `registry_authentication`; None for a public image."""
        return self.credentials.filled(form) if form.get("private") else None

    def faults(self, form: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the errors by field path of the public API."""
        if self.reference is None:
            return {"container.image": [self.fault or "Enter an image."]}
        if form.get("private") and self.authentication(form) is None:
            first = f"{_PREFIXES[0]}{self.credentials.kind}.{self.credentials.fields[0].name}"
            return {first: [f"Enter the credentials for {self.credentials.registry}."]}
        return {}


def faults_by_field(error: InvalidInputError) -> Faults:
    """Map the public API's field paths to the names of the form's fields."""
    found: dict[str, list[str]] = {}
    for path, reasons in error.fields.items():
        name = _RENAMED.get(path, path)
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        found[name] = reasons
    return found or {"form": [str(error)]}
