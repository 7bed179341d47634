"""The native media engine: moves bytes and decides nothing. Built from native/ (Rust, PyO3).

No call here blocks longer than a hand-over to the engine's threads. Every stream is named by the
caller. Hosts are
numeric addresses. All state is inside one Engine; there are no globals. The TypedDicts and the
Literals are known
to type checkers only: import them under TYPE_CHECKING.
"""

from collections.abc import Sequence
from typing import Literal, Self, TypedDict, final

Transport = Literal["udp", "tcp-passive", "tcp-active"]
Container = Literal["flv", "fmp4", "flv-audio", "fmp4-audio", "ps", "parts", "rtp", "rtp-video", "rtp-audio"]
Dialogue = Literal["", "websocket", "rtsp"]

SOURCE_DIGEST: str
"""SHA-256 (hex) of the crate's sources at build time, so that a stale build can be refused.

Over Cargo.toml and src/**/*.rs, sorted by path relative to native/: path, NUL, decimal length, NUL,
content.
"""

class OfferRefused(ValueError):
    """A browser's offer gets no answer; the argument is why.

    ``off`` (no port for WebRTC), ``malformed``, ``media`` (not one picture and at most one sound, to be
    received), ``no video``, or ``codec h265`` and the like: the stream's picture is of a codec that the offer
    does not have.
    """

class StreamStats(TypedDict):
    stream: str
    transport: str
    ssrc: int
    video_codec: str  # "", "h264", "h265", "svac", "mpeg4"
    audio_rate_hz: int  # 0 while it is not known
    audio_codec: str  # "", "g711a", "g711u", "aac", "g722.1", "g723.1", "g729", "svac-audio"
    width: int
    height: int
    packets: int
    bytes: int
    lost: int
    reordered: int
    duplicates: int
    malformed: int
    foreign_ssrc: int
    frames: int
    key_frames: int
    viewers: int
    relays: int
    opened_ms: float  # engine clock: monotonic milliseconds since the engine started
    first_packet_ms: float  # -1 until it happened
    first_key_frame_ms: float  # -1 until it happened
    last_packet_ms: float  # -1 until it happened
    window_ms: float  # what the next three were taken over, about the last 5 s
    bitrate_kbps: float  # -1 before the first second is over
    frame_rate: float  # pictures a second, -1 as above
    loss_rate: float  # lost of those that should have come, 0 to 1; -1 when nothing should have
    jitter_ms: float  # RFC 3550, a frame
    delay_ms: float  # how much later than at best frames come (queues on the way); -1 before the first
    report_delay_ms: float
    """Age of the newest frame by the sender's wall clock (RTCP) and ours: true as far as both are set.

    -1 without a sender report, or when the clocks are more than a minute apart.
    """
    key_interval_ms: float  # between the last two key frames, by the stream's clock; -1 before the second
    gop_bytes: int
    kernel_drops: int  # datagrams the kernel dropped because the engine was late (UDP)
    backlog_bytes: int  # bytes waiting in the kernel's queue, its overhead included (UDP)

class PortStats(TypedDict):
    streams: int
    unknown: int  # packets and connections that belonged to no stream
    arrived: int  # connections that have not shown whose they are
    kernel_drops: int
    backlog_bytes: int

class Event(TypedDict):
    kind: str
    """first_packet | first_key_frame | key_frame_wanted | codec | connected | peer_closed | viewer_closed
    | relay_closed | error

    key_frame_wanted: a browser asked for one (its id), or who joined found none and none came for a second
    (0); at most every half second for a stream, and every second while it stays so.

    connected tells of a TCP ingest (id 0), of a TCP relay or of a browser (its id). error: a stream was
    closed by a fault of ours.
    """
    stream: str
    id: int  # viewer or relay id, 0 for the stream itself
    at_ms: float
    detail: str
    """Codec name; or why (asked, dark: a key frame is wanted):

    eof, reset, refused, timeout, unreachable, framing lost, stalled, detached, stream closed,
    protocol, error.
    """

class Description(TypedDict):
    video_codec: str
    parameter_sets: list[bytes]  # VPS, SPS, PPS of the cached group
    audio_codec: str
    aac_rate_hz: int  # 0 without AAC
    aac_channels: int
    aac_config: bytes  # AudioSpecificConfig

class ViewerStats(TypedDict):
    id: int
    stream: str
    container: str  # or "webrtc"
    bytes: int
    frames: int
    skipped: int  # frames left out because the viewer was slow
    queued_bytes: int
    reported_loss_rate: float | None  # by RTCP, of an RTSP client that is served over UDP
    reported_lost: int | None
    reported_jitter: int | None

@final
class Engine:
    """One engine: its own threads, sockets and streams.

    Args:
        threads: packet threads, 1-16; streams are spread over them.
        tick_ms: the gathering tick, 1-20 ms. A thread without viewers and relays gathers for 20 ms, but for
            two seconds behind the opening of a stream, and where a socket got a small receive buffer.
        reorder_window: packets held back for reordering, 0-1024.
        gop_bytes: cap of one stream's GOP cache.
        viewer_queue_bytes: cap of one viewer's queue; past it the viewer skips to the next key frame.
        viewer_stall_ms: a viewer that takes nothing for this long while data waits is closed ("stalled").
        max_streams, max_viewers: refusal beyond these (RuntimeError "limit").
        webrtc_host: address that WebRTC is received at; "" serves no browser by it.
        webrtc_port: UDP port of the first packet thread, the next ones follow; 0 lets the system choose.
        webrtc_public: address that browsers are told, when it is another one.
    """

    def __new__(
        cls,
        *,
        threads: int = 1,
        tick_ms: int = 6,
        reorder_window: int = 512,
        gop_bytes: int = 8 << 20,
        viewer_queue_bytes: int = 4 << 20,
        viewer_stall_ms: float = 10_000.0,
        max_streams: int = 4096,
        max_viewers: int = 20000,
        webrtc_host: str = "",
        webrtc_port: int = 0,
        webrtc_public: str = "",
    ) -> Self: ...
    def now_ms(self) -> float: ...
    @property
    def event_fd(self) -> int:
        """An eventfd that becomes readable when ``poll_events`` has something."""
    def poll_events(self, limit: int = 1024) -> list[Event]: ...
    def open_ingest(
        self,
        stream: str,
        transport: Transport,
        host: str,
        port: int = 0,
        ssrc: int | None = None,
        *,
        shared: bool = False,
    ) -> int:
        """Bind and listen; returns the local port (even for UDP). For tcp-active it binds only;

        see connect_ingest.

        ssrc None: the first one seen is taken (latched) until it has been silent for two seconds;
        otherwise packets of another SSRC are counted and dropped.
        shared: on a port that other streams may have too (port 0 begins a new one), told apart by SSRC
        (set_ssrc) or by source (set_source); without either nothing arrives. Not for tcp-active.
        Raises OSError (bind), ValueError (argument), KeyError (stream exists), RuntimeError (limit).
        """
    def set_ssrc(self, stream: str, ssrc: int | None, *, is_hint: bool = False) -> None:
        """Take only this SSRC from now on.

        is_hint: on a shared port its packets come to the stream, which takes any SSRC as with None. Two
        streams of a shared port may have one SSRC: then their sources tell them apart.
        """
    def hold(self, stream: str) -> int | None:
        """Hold pictures back from now on (at most 16 MiB); the time of the last one shown, 90 kHz."""
    def step(self, stream: str) -> int | None:
        """Show the next picture that is held back; its time, None when none is held."""
    def let_go(self, stream: str, *, forget: bool) -> None:
        """Hold nothing back any more. What is held is shown, or forgotten; then a key frame goes first."""
    def relay_numbers(self, relay: int) -> tuple[int, int] | None:
        """Of a relay that passes packets on: (its next sequence number, the sender's that gets it)."""
    def set_source(self, stream: str, host: str, port: int = 0) -> None:
        """On a shared port: packets from there are the stream's when no SSRC says otherwise.

        Port 0 is any port of the host, as long as one stream alone says so. ValueError: no shared port.
        """
    def set_payload_types(self, stream: str, types: list[tuple[int, str, int]]) -> None:
        """What the session description says: (number, codec name or "ps", clock in Hz), at most 128.

        A hint for elementary streams; what the bytes show outweighs it.
        """
    def port_stats(self, transport: Transport, host: str, port: int) -> PortStats:
        """Figures of a shared port; KeyError when there is none."""
    def connect_ingest(self, stream: str, host: str, port: int) -> None:
        """tcp-active: connect to the sender (retries 3 times, 1 s apart, GB/T 28181 Annex D)."""
    def close_stream(self, stream: str) -> StreamStats:
        """Close ingest, relays and viewers; every socket is closed when it returns. KeyError if unknown."""
    def add_relay(
        self,
        stream: str,
        transport: Transport,
        host: str,
        port: int,
        ssrc: int,
        local_host: str = "127.0.0.1",
        payload_type: int = 96,
    ) -> tuple[int, int]:
        """Relay the stream's PS/RTP to another platform with its SSRC; (relay id, local port).

        tcp-passive listens on the returned port and ignores host/port; tcp-active connects from
        it, with the
        retries of Annex D. A relay of a running stream starts with its cached group of
        pictures, multiplexed anew,
        and goes over to forwarding at the next key frame. Raises ValueError (argument), OSError
        (bind), KeyError.
        """
    def remove_relay(self, relay: int) -> None: ...
    def attach(
        self,
        stream: str,
        container: Container,
        fd: int,
        head: bytes,
        dialogue: Dialogue = "",
        ports: Sequence[tuple[int, int, int]] = ...,
        silence_ms: float = 60_000.0,
    ) -> int:
        """Serve one viewer on a connected TCP socket.

        The engine owns ``fd`` from here (also on error it closes it).

        dialogue: "" writes the container as it is; "websocket" makes each tag one binary message, answers
        pings and ends with a close frame; "rtsp" answers what a playing client asks.
        container "parts" is for HLS: after the init segment each tag is fragments of at most half a second,
        behind their length in 90 kHz ticks and flags (1 begins with a key frame, 2 with an init segment).
        "rtp", "rtp-video" and "rtp-audio" are RTP interleaved for RTSP: video on channel 0, sound on 2.
        "flv-audio" and "fmp4-audio" are the sound alone; a viewer starts with the next frame of it.

        ports: of the dialogue "rtsp", when its packets go by UDP instead: the channel of a track's RTP, and
        the descriptors of two UDP sockets for its RTP and RTCP, each connected to the client's port; the
        engine owns them too. A client of whom neither a request nor a report came for ``silence_ms`` is
        ended ("silent").

        head: bytes written first (the HTTP response header). Chunked transfer is not used; the
        answer ends by close.
        Starts with the cached GOP. Returns the viewer id.
        """
    def add_peer(self, stream: str, offer: str) -> tuple[int, str]:
        """Serve one browser by WebRTC: (id, answer). The id is that of a viewer, for detach and figures.

        The engine answers as ICE lite with one host candidate, sends H.264 or H.265 and G.711 as they are,
        beginning with the cached GOP, and announces ``connected`` with the id. A browser that does not
        connect within 15 s or is silent for 12 s is closed ("timeout"), one that says goodbye too ("eof").
        Raises OfferRefused, KeyError, RuntimeError (limit).
        """
    def detach(self, viewer: int) -> None: ...
    def stats(self, stream: str) -> StreamStats: ...
    def viewer_stats(self, viewer: int) -> ViewerStats: ...
    def describe(self, stream: str) -> Description:
        """What a client must know before it plays the stream by RTP."""
    def streams(self) -> list[str]: ...
    def snapshot_gop(self, stream: str) -> bytes:
        """The cached GOP as Annex B bytes, from its key frame; empty when there is none."""
    def shutdown(self) -> None:
        """Close everything and join the threads; idempotent."""

@final
class PsSender:
    """A camera's or tool's sender:

    elementary frames in, PS (or nothing else) over RTP out, paced within a frame.

    Args:
        transport: udp, tcp-active (connects), tcp-passive (listens on local_port).
        ssrc: RTP SSRC. video: "h264" | "h265". audio: "" | "g711a" | "g711u" | "aac".
        rate_kbps: peak rate for spreading one frame's packets (4.3.6); 0 sends at once.
    """

    def __new__(
        cls,
        transport: Transport,
        local_host: str,
        local_port: int,
        ssrc: int,
        video: str,
        audio: str = "",
        payload_type: int = 96,
        rate_kbps: int = 0,
        mtu: int = 1400,
    ) -> Self: ...
    @property
    def local_port(self) -> int: ...
    def connect(self, host: str, port: int) -> None:
        """Name the receiver.

        Over TCP (active) the connection comes about in the background, with three retries.
        """
    def send_video(self, annexb: bytes, pts_90k: int, key: bool) -> int:
        """Send one access unit; returns packets sent (0 when not connected yet).

        BrokenPipeError when the peer left.

        Over TCP it waits up to 5 s for a peer that does not read. With rate_kbps it takes as
        long as the frame needs.
        """
    def send_audio(self, payload: bytes, pts_90k: int) -> int: ...
    def close(self) -> None: ...

def ps_mux(frames: list[tuple[str, bytes, int, bool]], video: str, audio: str = "") -> bytes:
    """Multiplex ("video"|"audio", payload, pts_90k, key) into one PS byte string, for tests and files."""

def ps_demux(data: bytes) -> list[tuple[str, bytes, int, bool]]:
    """Demultiplex PS bytes into (codec, payload, pts_90k, key); garbage is skipped, never an exception."""

def bench_media(case: str, options: dict[str, float]) -> dict[str, float]:
    """One measured round of one case of ``tongshi bench media``;

    see native/src/bench.rs for cases and figures.
    """
