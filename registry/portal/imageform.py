"""The part of a form that names an image and gives the credentials for it. Pure."""

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
    """An image as it was typed, as it is read, and what its registry asks for.

    Attributes:
        fault: Why there is no reference; empty while nothing was typed.
    """

    image: str
    reference: Reference | None
    fault: str
    credentials: CredentialForm

    @classmethod
    def read(cls, image: str) -> Self:
        """Read a reference as it was typed."""
        image = image.strip()
        try:
            reference, fault = Reference.parse(image), ""
        except ReferenceFormatError as error:
            reference, fault = None, str(error) if image else ""
        return cls(image, reference, fault, form_for(reference))

    @property
    def kind(self) -> str:
        """Name the fields that are asked for, to tell whether they are shown already."""
        return f"{self.credentials.kind} {self.credentials.registry}"

    def authentication(self, form: Mapping[str, str]) -> Mapping[str, Mapping[str, str]] | None:
        """Return `registry_authentication` as it was typed; None for a public image."""
        return self.credentials.filled(form) if form.get("private") else None

    def faults(self, form: Mapping[str, str]) -> dict[str, list[str]]:
        """Return what is wrong with it, by the public API's paths."""
        if self.reference is None:
            return {"container.image": [self.fault or "Name the image."]}
        if form.get("private") and self.authentication(form) is None:
            first = f"{_PREFIXES[0]}{self.credentials.kind}.{self.credentials.fields[0].name}"
            return {first: [f"Give the credentials that {self.credentials.registry} takes."]}
        return {}


def faults_by_field(error: InvalidInputError) -> Faults:
    """Turn the public API's paths into the names of the form's fields."""
    found: dict[str, list[str]] = {}
    for path, reasons in error.fields.items():
        name = _RENAMED.get(path, path)
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        found[name] = reasons
    return found or {"form": [str(error)]}
