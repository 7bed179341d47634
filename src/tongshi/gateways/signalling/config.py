"""What the signalling gateway must know of this platform."""

from __future__ import annotations

from dataclasses import dataclass, field

from tongshi.gateways.signalling.admission.desk import AdmissionConfig
from tongshi.gateways.signalling.broadcast import Waits
from tongshi.gateways.signalling.catalogues import Patience
from tongshi.gateways.signalling.keepalive import Beat
from tongshi.gateways.signalling.record_search import SearchPatience
from tongshi.gateways.signalling.registrar import MIN_EXPIRES_S, Redirect
from tongshi.gateways.signalling.subscriptions.flow import SubscriptionSettings
from tongshi.gateways.signalling.tls import TlsPlan
from tongshi.gateways.signalling.trace.recorder import DEFAULT_BYTES
from tongshi.gateways.signalling.upward import UpperAccount
from tongshi.ids import PlatformId
from tongshi.resources.viewing.model import Transport


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Its code and name, where it is reached, and how patient it is.

    Attributes:
        host, port: address to bind, which peers reach us at.
        media_host: address to bind for sound; that of signalling when empty.
        trace_bytes: memory for timelines of sessions; 0 keeps none.
        tls: SIP over TLS, in and out; None: neither.
        media_transports: how media from a lower platform comes, and how we offer it to an upper that leaves
            it to us, by the platform's id; UDP for who is not named.
    """

    platform_id: PlatformId
    name: str
    civil_code: str
    host: str
    port: int
    beat: Beat = field(default_factory=Beat)
    uppers: tuple[UpperAccount, ...] = ()
    media_transports: tuple[tuple[str, Transport], ...] = ()
    min_expires_s: int = MIN_EXPIRES_S
    patience: Patience = field(default_factory=Patience)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    redirects: tuple[Redirect, ...] = ()
    subscriptions: SubscriptionSettings = field(default_factory=SubscriptionSettings)
    trace_bytes: int = DEFAULT_BYTES
    search_patience: SearchPatience = field(default_factory=SearchPatience)
    media_host: str = ""
    voice_waits: Waits = field(default_factory=Waits)
    tls: TlsPlan | None = None
