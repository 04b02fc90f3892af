"""The operator API's policies for signatures of images."""

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import Body, Document, ImageVerdict
from registry.api.public.container import RegistryAuthentication
from registry.services.policies import OrganizationPolicies
from registry.trust.keys import MAX_PEM_CHARS
from registry.trust.policy import MAX_PATTERN_CHARS, MAX_POLICIES, MAX_RULES
from registry.upstream.credentials import from_registry_authentication

_PATH: Final = "/organizations/{organization_name}/policies"

Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_CHARS)]
Pem = Annotated[str, Field(min_length=1, max_length=MAX_PEM_CHARS)]


class CosignKey(Body):
    """Accepts signatures that cosign made with this key.

    Attributes:
        key: Public key in PEM: the file `cosign.pub`.
    """

    type: Literal["cosign-key"]
    key: Pem


class CosignKeyless(Body):
    """Accepts signatures that cosign made with a short-lived certificate of an identity.

    Attributes:
        issuer: URL of the OpenID Connect provider; `*` and `?` are wildcards.
        identity: E-mail address or URI of the signer; `*` and `?` are wildcards.
        trusted_root: Sigstore's `trusted_root.json`; by default that of its public instance.
    """

    type: Literal["cosign-keyless"]
    issuer: Pattern
    identity: Pattern
    trusted_root: dict[str, Any] | None = None


class Notation(Body):
    """Accepts signatures of the Notary Project whose certificates lead to a trusted one.

    Attributes:
        certificate: Trusted certificates in PEM.
        identity: Attributes of the signer's subject, as `C=US, ST=WA, O=acme`; by default any subject.
    """

    type: Literal["notation"]
    certificate: Pem
    identity: Pattern | None = None


class SlsaProvenance(Body):
    """Accepts SLSA provenance that cosign attested with a key, or for an identity.

    Attributes:
        builder: Pattern of the builder's id; `*` and `?` are wildcards.
        source: Pattern of the source repository's URL; by default any.
        key: Public key in PEM. Without a key, `issuer` and `identity` are required.
        issuer: As for `cosign-keyless`.
        identity: As for `cosign-keyless`.
        trusted_root: As for `cosign-keyless`.
    """

    type: Literal["slsa-provenance"]
    builder: Pattern
    source: Pattern | None = None
    key: Pem | None = None
    issuer: Pattern | None = None
    identity: Pattern | None = None
    trusted_root: dict[str, Any] | None = None


class PolicyShape(Body):
    """Whose images are imported from the repositories that match a pattern.

    Attributes:
        pattern: Pattern of `registry/repository`; `*` (also across `/`) and `?` are wildcards.
        mode: `enforce` refuses images that are not signed as required; `warn` records it.
        require: Whether any rule or all rules must accept the image.
        rules: Without rules, no image is accepted.
    """

    model_config = ConfigDict(title="Policy")

    pattern: Pattern
    mode: Literal["enforce", "warn"]
    require: Literal["any", "all"]
    rules: Annotated[
        list[Annotated[CosignKey | CosignKeyless | Notation | SlsaProvenance, Field(discriminator="type")]],
        Field(max_length=MAX_RULES),
    ]


class NewPolicies(Body):
    """An organization's policies, in order: the first whose pattern matches decides."""

    policies: Annotated[list[PolicyShape], Field(max_length=MAX_POLICIES)]


class Policies(Document):
    """An organization's policies, in order: the first whose pattern matches decides."""

    policies: list[PolicyShape]


class ImageToTest(Body):
    """An image to test.

    Attributes:
        registry_authentication: Credentials as in the public API; they are not stored.
    """

    image: Annotated[str, Field(min_length=1, max_length=1024)]
    registry_authentication: RegistryAuthentication | None = Field(default=None, repr=False)


class PolicyTest(Document):
    """Result of a test.

    Attributes:
        verdict: Null if no policy is for the image: it would be imported without a check.
        importable: Whether an import would go on.
    """

    image: str
    digest: str
    importable: bool
    verdict: ImageVerdict | None


class PoliciesApi:
    """Operations on an organization's policies for signatures."""

    tag: ClassVar[str] = "policies"

    def __init__(self, policies: OrganizationPolicies) -> None:
        self._policies = policies

    @Endpoint("GET", _PATH, "The policies.", errors=(404,))
    async def show_policies(self, call: Call[None]) -> Policies:
        """Get an organization's policies for signatures."""
        found = await self._policies.show(call.path("organization_name"))
        return Policies.model_validate({"policies": found})

    @Endpoint("PUT", _PATH, "The policies.", errors=(404,))
    async def set_policies(self, call: Call[NewPolicies]) -> Policies:
        """Replace an organization's policies for signatures.

        They apply to imports that begin after that. Stored images stay as they are.
        """
        given = [policy.model_dump(exclude_none=True) for policy in call.body.policies]
        found = await self._policies.set(call.path("organization_name"), given, source=call.source)
        return Policies.model_validate({"policies": found})

    @Endpoint("POST", f"{_PATH}/test", "The result.", errors=(404, 429))
    async def test_policies(self, call: Call[ImageToTest]) -> PolicyTest:
        """Check an image against the organization's policies, without importing it."""
        asked = call.body.registry_authentication
        credential = from_registry_authentication(asked.reveal() if asked else None)
        tested = await self._policies.test(call.path("organization_name"), call.body.image, credential)
        verdict = tested.verdict
        return PolicyTest(
            image=tested.image,
            digest=tested.digest,
            importable=verdict is None or not verdict.refuses,
            verdict=ImageVerdict.model_validate(verdict) if verdict else None,
        )
