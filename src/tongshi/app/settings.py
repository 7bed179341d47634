"""What each part must know, read from the whole configuration."""

from __future__ import annotations

from urllib.parse import urlsplit

from tongshi.clock import Clock
from tongshi.config.sections import Config, MediaNodeSection, NeighbourSection, reveal
from tongshi.gateways.media.nodes.farm import FarmPlan, OwnAccount, ZlmAccount
from tongshi.gateways.media.s3_files import S3Files
from tongshi.gateways.signalling.admission.bindings import Binding
from tongshi.gateways.signalling.admission.desk import AdmissionConfig
from tongshi.gateways.signalling.admission.door import Limits
from tongshi.gateways.signalling.admission.fingerprints import Policy
from tongshi.gateways.signalling.config import GatewayConfig
from tongshi.gateways.signalling.endpoint import Remote
from tongshi.gateways.signalling.keepalive import Beat
from tongshi.gateways.signalling.registrar import Redirect
from tongshi.gateways.signalling.subscriptions.catalogue_news import Batching
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionSettings
from tongshi.gateways.signalling.subscriptions.subscriber import Kind
from tongshi.gateways.signalling.subscriptions.subscriber import Rhythm as SubscriptionRhythm
from tongshi.gateways.signalling.tls import TlsPlan, Trust
from tongshi.gateways.signalling.upward import UpperAccount
from tongshi.gateways.signalling.upward_names import Alias, Names
from tongshi.ids import PlatformId
from tongshi.protocols.gb28181.codes import normalise_civil_code
from tongshi.protocols.s3_signature import Credentials
from tongshi.resources.viewing.model import Timeouts, Transport


def gateway_config(config: Config) -> GatewayConfig:
    """What signalling must know, from the whole configuration."""
    section = config.signalling
    return GatewayConfig(
        platform_id=PlatformId(config.platform.id),
        name=config.platform.name,
        civil_code=normalise_civil_code(config.platform.id[:10]),
        host=section.host,
        port=section.port,
        beat=Beat(section.keepalive_interval_s, section.keepalive_count),
        trace_bytes=section.trace_memory_mb * 1024 * 1024,
        subscriptions=_subscriptions(config),
        uppers=tuple(
            _upper(config, neighbour)
            for neighbour in config.neighbours
            if neighbour.relation == "upper" and neighbour.sip_host
        ),
        tls=_tls(config),
        media_host=config.media.host,
        media_transports=tuple(
            (neighbour.id, Transport(neighbour.media_transport)) for neighbour in config.neighbours
        ),
        admission=_admission(config),
        redirects=tuple(
            Redirect(one.prefix, one.server_id, Remote(one.host, one.port, one.transport), one.expires_s)
            for one in config.redirects
        ),
    )


def farm_plan(config: Config) -> FarmPlan:
    section = config.media
    accounts = [_node_account(node, config.platform.id) for node in section.nodes]
    return FarmPlan(
        accounts,
        section.places,
        section.max_streams,
        section.hook_host,
        section.hook_port,
        section.hook_reach,
    )


def _node_account(node: MediaNodeSection, platform_id: str) -> ZlmAccount | OwnAccount:
    secret, places = reveal(node.secret), node.places
    if node.kind == "zlmediakit":
        return ZlmAccount(
            node.name, node.api, secret, node.media_host, node.viewer_url, places, node.max_streams
        )
    return OwnAccount(
        node.name,
        node.api,
        secret,
        node.media_host,
        node.viewer_url,
        places,
        node.max_streams,
        platform_id,
        node.rtsp_url,
        node.ca,
    )


def timeouts(config: Config) -> Timeouts:
    return Timeouts(
        answer_s=config.signalling.answer_timeout_s,
        first_packet_s=config.media.first_packet_timeout_s,
        first_key_frame_s=config.media.first_key_frame_timeout_s,
        linger_s=config.media.linger_s,
    )


def object_store(config: Config, clock: Clock) -> S3Files | None:
    section = config.recording
    if not section.s3_endpoint:
        return None
    credentials = Credentials(section.s3_key, reveal(section.s3_secret), section.s3_region)
    return S3Files(section.s3_endpoint, section.s3_bucket, credentials, clock)


def media_origins(config: Config) -> tuple[str, ...]:
    """Where the console may fetch pictures from; a port that the system chooses is not known yet."""
    port = config.media.http_port or "*"
    sources = [f"http://{config.media.host}:{port}"]
    sources += ["{0.scheme}://{0.netloc}".format(urlsplit(node.viewer_url)) for node in config.media.nodes]
    return tuple(word for source in sources for word in (source, f"ws{source.removeprefix('http')}"))


def _admission(config: Config) -> AdmissionConfig:
    """How strangers are met, who is bound to where, and what a changed device may do."""
    section = config.signalling
    bindings = [Binding(account.prefix, account.addresses, account.macs) for account in config.accounts]
    bindings += [Binding(neighbour.id, neighbour.sip_addresses) for neighbour in config.neighbours]
    return AdmissionConfig(
        Limits(section.stranger_burst, section.stranger_rate_per_s),
        tuple(binding for binding in bindings if binding.addresses or binding.macs),
        Policy(section.fingerprints),
    )


def _tls(config: Config) -> TlsPlan | None:
    """SIP over TLS, where it is configured or an upper needs it."""
    section = config.signalling.tls
    trusts = {
        (one.sip_host, one.sip_port): Trust(
            one.sip_tls_ca, one.sip_tls_fingerprint, one.sip_tls_name, one.sip_tls_insecure
        )
        for one in config.neighbours
        if one.relation == "upper" and one.sip_transport == "tls"
    }
    if not (section.certificate or section.peer_ca or trusts):
        return None
    return TlsPlan(
        certificate=section.certificate,
        key=section.key,
        port=section.port if section.certificate else None,
        client_ca=section.client_ca,
        peer_ca=section.peer_ca,
        crl=section.crl,
        trusts=trusts,
    )


def _subscriptions(config: Config) -> SubscriptionSettings:
    """A neighbour's own word goes before that of the account with the same leading digits."""
    below = [(one.id, one.subscribe) for one in config.neighbours if one.relation != "upper"]
    rows = [(one.prefix, one.subscribe) for one in config.accounts] + below
    section = config.signalling
    return SubscriptionSettings(
        at=tuple((code, frozenset(Kind(word) for word in words)) for code, words in rows),
        rhythm=SubscriptionRhythm(expires_s=section.subscription_expires_s),
        batching=Batching(wait_s=section.catalogue_news_wait_s),
    )


def _upper(config: Config, neighbour: NeighbourSection) -> UpperAccount:
    section = config.signalling
    return UpperAccount(
        id=neighbour.id,
        remote=Remote(neighbour.sip_host, neighbour.sip_port, neighbour.sip_transport),
        username=neighbour.sip_username or config.platform.id,
        password=reveal(neighbour.sip_secret),
        expires_s=section.registration_expires_s,
        retry_s=section.registration_retry_s,
        names=Names((Alias(one.id, one.shown_id, one.name) for one in neighbour.aliases), config.platform.id),
    )
