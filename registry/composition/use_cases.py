"""The use-cases that the APIs and the portal share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from auth.nodes.enrolment import NodeEnrolment
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.catalog.enrolments import SqlEnrolmentRecords
from registry.catalog.images import SqlImages
from registry.composition.shared import Shared
from registry.model.images import Variant
from registry.oci.reference import Reference
from registry.services.api_keys import ApiKeys
from registry.services.groups import ContainerGroups
from registry.services.nodes import Nodes
from registry.services.pull_tokens import PullTokens
from registry.services.sboms import ImageSboms
from registry.services.webhooks import Webhooks
from registry.upstream.credentials import from_registry_authentication


@dataclass
class UseCases:
    """The use-cases of the role `api`.

    Attributes:
        nudge: Wakes the import worker of this process.
    """

    shared: Shared
    nudge: Callable[[], None]

    @cached_property
    def groups(self) -> ContainerGroups:
        return ContainerGroups(
            catalog=self.shared.groups,
            vault=self.shared.vault,
            progress_store=self.shared.progress,
            organizations=self.shared.organizations,
            instances=self.shared.instances,
            quotas=self.shared.organization_quotas,
            clock=self.shared.clock,
            parse_reference=Reference.parse,
            credential_from=from_registry_authentication,
            revoke_tokens=self.shared.authority.revoke_group,
            nudge=self.nudge,
        )

    @cached_property
    def pull_tokens(self) -> PullTokens:
        shared = self.shared
        variant = Variant(shared.settings.default_variant)
        return PullTokens(
            catalog=shared.groups,
            instances=shared.designations,
            nodes=shared.nodes,
            authority=shared.authority,
            encryption=shared.encryption,
            policies=shared.encryption_policies,
            default=variant,
        )

    @cached_property
    def key_directory(self) -> SqlApiKeyDirectory:
        return SqlApiKeyDirectory(self.shared.database, self.shared.clock)

    @cached_property
    def api_keys(self) -> ApiKeys:
        return ApiKeys(
            keys=self.key_directory,
            organizations=self.shared.organizations,
            quotas=self.shared.organization_quotas,
            clock=self.shared.clock,
        )

    @cached_property
    def enrolment(self) -> NodeEnrolment:
        shared = self.shared
        return NodeEnrolment(
            shared.node_ca,
            shared.nodes,
            SqlEnrolmentRecords(shared.database, shared.clock),
            shared.trail,
            shared.clock,
            offer_s=shared.settings.enrolment_s,
        )

    @cached_property
    def nodes(self) -> Nodes:
        return Nodes(self.shared.nodes, self.enrolment, self.shared.authority)

    @cached_property
    def images(self) -> SqlImages:
        return SqlImages(self.shared.database)

    @cached_property
    def sboms(self) -> ImageSboms:
        return ImageSboms(self.images, self.shared.blobs)

    @cached_property
    def webhooks(self) -> Webhooks:
        return Webhooks(
            catalog=self.shared.webhooks,
            secrets=self.shared.webhook_secrets,
            organizations=self.shared.organizations,
            quotas=self.shared.organization_quotas,
            clock=self.shared.clock,
            vet=self.shared.hooks.vet,
        )
