//! The Python face: arguments in, errors out, the interpreter released while waiting. No policy.
//!
//! The contract, with units, is `src/tongshi/_media.pyi`.

use crate::bench;
use crate::demux::PayloadType;
use crate::engine::{self, EngineError, Options, RelayTarget, Transport, WebrtcOptions};
use crate::frame::Codec;
use crate::net;
use crate::ps_demux::PsDemuxer;
use crate::ps_mux::PsMuxer;
use crate::sender::{self, SenderOptions};
use crate::viewer::datagrams::{Datagrams, PortPair};
use crate::viewer::{rtsp, websocket, Container, Dialogue};
use bytes::Bytes;
use pyo3::exceptions::{PyBrokenPipeError, PyKeyError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What one packet would carry; a whole file in one piece is not what the demultiplexer is made for.
const DEMUX_STEP: usize = 1400;

pyo3::create_exception!(_media, OfferRefused, PyValueError);

/// Payload types have seven bits.
const MAX_PAYLOAD_TYPES: usize = 128;

fn io_error(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        // Python chooses the subclass by the number.
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None if error.kind() == io::ErrorKind::BrokenPipe => PyBrokenPipeError::new_err(error.to_string()),
        None if error.kind() == io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
        None => PyOSError::new_err(error.to_string()),
    }
}

/// An engine error as Python's; `name` is what was asked for.
fn python_error(error: &EngineError, name: &str) -> PyErr {
    match error {
        EngineError::Io(e) => io_error(e),
        EngineError::Invalid(what) => PyValueError::new_err((*what).to_owned()),
        EngineError::Exists => PyKeyError::new_err(format!("stream exists: {name}")),
        EngineError::Unknown => PyKeyError::new_err(name.to_owned()),
        EngineError::Refused(why) => OfferRefused::new_err(why.word()),
        EngineError::Limit => PyRuntimeError::new_err("limit"),
        EngineError::Gone => PyRuntimeError::new_err("the engine is shut down or does not answer"),
    }
}

fn address(host: &str, port: u16) -> PyResult<SocketAddr> {
    let ip: IpAddr =
        host.parse().map_err(|_| PyValueError::new_err(format!("not a numeric address: {host}")))?;
    Ok(SocketAddr::new(ip, port))
}

/// Where WebRTC is received; an empty host is nowhere, an empty public address the same as the host.
fn webrtc_options(host: &str, port: u16, public: &str) -> PyResult<Option<WebrtcOptions>> {
    if host.is_empty() {
        return Ok(None);
    }
    let bind = address(host, port)?;
    let public = if public.is_empty() { bind.ip() } else { address(public, 0)?.ip() };
    if public.is_unspecified() {
        return Err(PyValueError::new_err("webrtc_public"));
    }
    Ok(Some(WebrtcOptions { bind, public }))
}

fn transport(name: &str) -> PyResult<Transport> {
    Transport::from_name(name).ok_or_else(|| PyValueError::new_err(format!("transport: {name}")))
}

fn codec(name: &str) -> PyResult<Codec> {
    Codec::from_name(name).ok_or_else(|| PyValueError::new_err(format!("codec: {name}")))
}

fn optional_codec(name: &str) -> PyResult<Option<Codec>> {
    if name.is_empty() {
        return Ok(None);
    }
    codec(name).map(Some)
}

fn stats_dict<'py>(py: Python<'py>, stats: &engine::StreamStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("stream", &stats.stream)?;
    dict.set_item("transport", stats.transport.name())?;
    dict.set_item("ssrc", stats.ssrc)?;
    dict.set_item("video_codec", stats.video_codec)?;
    dict.set_item("audio_codec", stats.audio_codec)?;
    dict.set_item("audio_rate_hz", stats.audio_rate_hz)?;
    dict.set_item("width", stats.width)?;
    dict.set_item("height", stats.height)?;
    dict.set_item("packets", stats.packets)?;
    dict.set_item("bytes", stats.bytes)?;
    dict.set_item("lost", stats.lost)?;
    dict.set_item("reordered", stats.reordered)?;
    dict.set_item("duplicates", stats.duplicates)?;
    dict.set_item("malformed", stats.malformed)?;
    dict.set_item("foreign_ssrc", stats.foreign_ssrc)?;
    dict.set_item("frames", stats.frames)?;
    dict.set_item("key_frames", stats.key_frames)?;
    dict.set_item("viewers", stats.viewers)?;
    dict.set_item("relays", stats.relays)?;
    dict.set_item("opened_ms", stats.opened_ms)?;
    dict.set_item("first_packet_ms", stats.first_packet_ms)?;
    dict.set_item("first_key_frame_ms", stats.first_key_frame_ms)?;
    dict.set_item("last_packet_ms", stats.last_packet_ms)?;
    let quality = &stats.quality;
    dict.set_item("window_ms", quality.window_ms)?;
    dict.set_item("bitrate_kbps", quality.bitrate_kbps)?;
    dict.set_item("frame_rate", quality.frame_rate)?;
    dict.set_item("loss_rate", quality.loss_rate)?;
    dict.set_item("jitter_ms", quality.jitter_ms)?;
    dict.set_item("delay_ms", quality.delay_ms)?;
    dict.set_item("report_delay_ms", quality.report_delay_ms)?;
    dict.set_item("key_interval_ms", quality.key_interval_ms)?;
    dict.set_item("gop_bytes", stats.gop_bytes)?;
    dict.set_item("kernel_drops", stats.kernel_drops)?;
    dict.set_item("backlog_bytes", stats.backlog_bytes)?;
    Ok(dict)
}

/// Take over pairs of UDP sockets; all are closed when one is wrong.
fn port_pairs(ports: &[(u8, i32, i32)]) -> io::Result<Vec<PortPair>> {
    let owned: Vec<_> = ports
        .iter()
        .map(|&(channel, rtp, rtcp)| (channel, net::own_udp_socket(rtp), net::own_udp_socket(rtcp)))
        .collect();
    owned.into_iter().map(|(channel, rtp, rtcp)| Ok(PortPair { channel, rtp: rtp?, rtcp: rtcp? })).collect()
}

/// One engine: its own threads, sockets and streams.
#[pyclass(frozen, module = "tongshi._media")]
struct Engine(engine::Engine);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, threads=1, tick_ms=6, reorder_window=512, gop_bytes=8 << 20, viewer_queue_bytes=4 << 20,
                        viewer_stall_ms=10_000.0, max_streams=4096, max_viewers=20_000, webrtc_host="", webrtc_port=0,
                        webrtc_public=""))]
    #[allow(clippy::too_many_arguments)] // Keyword arguments of the contract.
    fn new(
        threads: usize,
        tick_ms: u64,
        reorder_window: usize,
        gop_bytes: usize,
        viewer_queue_bytes: usize,
        viewer_stall_ms: f64,
        max_streams: usize,
        max_viewers: usize,
        webrtc_host: &str,
        webrtc_port: u16,
        webrtc_public: &str,
    ) -> PyResult<Self> {
        if !(1..=20).contains(&tick_ms) {
            return Err(PyValueError::new_err("tick_ms"));
        }
        if reorder_window > 1024 {
            return Err(PyValueError::new_err("reorder_window"));
        }
        let options = Options {
            threads,
            tick: Duration::from_millis(tick_ms),
            reorder_window,
            gop_bytes,
            viewer_queue_bytes,
            viewer_stall_ms,
            max_streams,
            max_viewers,
            webrtc: webrtc_options(webrtc_host, webrtc_port, webrtc_public)?,
        };
        engine::Engine::start(options).map(Self).map_err(|e| python_error(&e, ""))
    }

    fn now_ms(&self) -> f64 {
        self.0.now_ms()
    }

    #[getter]
    fn event_fd(&self) -> i32 {
        self.0.events().fd()
    }

    #[pyo3(signature = (limit=1024))]
    fn poll_events<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let taken = self.0.events().take(limit);
        taken
            .iter()
            .map(|event| {
                let dict = PyDict::new(py);
                dict.set_item("kind", event.kind.name())?;
                dict.set_item("stream", &*event.stream)?;
                dict.set_item("id", event.id)?;
                dict.set_item("at_ms", event.at_ms)?;
                dict.set_item("detail", &*event.detail)?;
                Ok(dict)
            })
            .collect()
    }

    #[pyo3(signature = (stream, transport, host, port=0, ssrc=None, *, shared=false))]
    #[allow(clippy::too_many_arguments)] // Arguments of the contract.
    fn open_ingest(
        &self,
        py: Python<'_>,
        stream: &str,
        transport: &str,
        host: &str,
        port: u16,
        ssrc: Option<u32>,
        shared: bool,
    ) -> PyResult<u16> {
        let (transport, local) = (self::transport(transport)?, address(host, port)?);
        py.detach(|| match shared {
            true => self.0.open_shared(stream, transport, local, ssrc),
            false => self.0.open_ingest(stream, transport, local, ssrc),
        })
        .map_err(|e| python_error(&e, stream))
    }

    #[pyo3(signature = (stream, host, port=0))]
    fn set_source(&self, py: Python<'_>, stream: &str, host: &str, port: u16) -> PyResult<()> {
        let source = address(host, port)?;
        py.detach(|| self.0.set_source(stream, source)).map_err(|e| python_error(&e, stream))
    }

    fn set_payload_types(&self, py: Python<'_>, stream: &str, types: Vec<(u8, String, u32)>) -> PyResult<()> {
        let types = types
            .into_iter()
            .map(|(number, name, clock_hz)| {
                // Program stream is no codec, and still no elementary stream that the number usually stands for.
                let codec = if name == "ps" { Codec::Unknown(0) } else { codec(&name)? };
                Ok(PayloadType { number, codec, clock_hz })
            })
            .collect::<PyResult<Vec<PayloadType>>>()?;
        if types.len() > MAX_PAYLOAD_TYPES {
            return Err(PyValueError::new_err("types"));
        }
        py.detach(|| self.0.set_payload_types(stream, types)).map_err(|e| python_error(&e, stream))
    }

    fn port_stats<'py>(
        &self,
        py: Python<'py>,
        transport: &str,
        host: &str,
        port: u16,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (transport, local) = (self::transport(transport)?, address(host, port)?);
        let stats = py
            .detach(|| self.0.port_stats(transport, local))
            .map_err(|e| python_error(&e, &local.to_string()))?;
        let dict = PyDict::new(py);
        dict.set_item("streams", stats.streams)?;
        dict.set_item("unknown", stats.unknown)?;
        dict.set_item("arrived", stats.arrived)?;
        dict.set_item("kernel_drops", stats.memory.drops)?;
        dict.set_item("backlog_bytes", stats.memory.backlog_bytes)?;
        Ok(dict)
    }

    #[pyo3(signature = (stream, ssrc, *, is_hint=false))]
    fn set_ssrc(&self, py: Python<'_>, stream: &str, ssrc: Option<u32>, is_hint: bool) -> PyResult<()> {
        py.detach(|| self.0.set_ssrc(stream, ssrc, is_hint)).map_err(|e| python_error(&e, stream))
    }

    fn hold(&self, py: Python<'_>, stream: &str) -> PyResult<Option<u64>> {
        py.detach(|| self.0.hold(stream)).map_err(|e| python_error(&e, stream))
    }

    fn step(&self, py: Python<'_>, stream: &str) -> PyResult<Option<u64>> {
        py.detach(|| self.0.step(stream)).map_err(|e| python_error(&e, stream))
    }

    #[pyo3(signature = (stream, *, forget))]
    fn let_go(&self, py: Python<'_>, stream: &str, forget: bool) -> PyResult<()> {
        py.detach(|| self.0.let_go(stream, forget)).map_err(|e| python_error(&e, stream))
    }

    fn relay_numbers(&self, py: Python<'_>, relay: u64) -> PyResult<Option<(u16, u16)>> {
        let numbers =
            py.detach(|| self.0.relay_numbers(relay)).map_err(|e| python_error(&e, &relay.to_string()))?;
        Ok(numbers.map(|numbers| (numbers.own, numbers.sender)))
    }

    fn connect_ingest(&self, py: Python<'_>, stream: &str, host: &str, port: u16) -> PyResult<()> {
        let peer = address(host, port)?;
        py.detach(|| self.0.connect_ingest(stream, peer)).map_err(|e| python_error(&e, stream))
    }

    fn close_stream<'py>(&self, py: Python<'py>, stream: &str) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.0.close_stream(stream)).map_err(|e| python_error(&e, stream))?;
        stats_dict(py, &stats)
    }

    #[pyo3(signature = (stream, transport, host, port, ssrc, local_host="127.0.0.1", payload_type=96))]
    #[allow(clippy::too_many_arguments)] // Arguments of the contract.
    fn add_relay(
        &self,
        py: Python<'_>,
        stream: &str,
        transport: &str,
        host: &str,
        port: u16,
        ssrc: u32,
        local_host: &str,
        payload_type: u8,
    ) -> PyResult<(u64, u16)> {
        let transport = self::transport(transport)?;
        // A passive relay waits for whoever comes; host and port say nothing then.
        let peer = if transport == Transport::TcpPassive { None } else { Some(address(host, port)?) };
        let target = RelayTarget { transport, peer, local: address(local_host, 0)?, ssrc, payload_type };
        py.detach(|| self.0.add_relay(stream, target)).map_err(|e| python_error(&e, stream))
    }

    fn remove_relay(&self, py: Python<'_>, relay: u64) -> PyResult<()> {
        py.detach(|| self.0.remove_relay(relay)).map_err(|e| python_error(&e, &relay.to_string()))
    }

    #[pyo3(signature = (stream, container, fd, head, dialogue="", ports=Vec::new(), silence_ms=60_000.0))]
    #[allow(clippy::too_many_arguments)] // Arguments of the contract.
    fn attach(
        &self,
        py: Python<'_>,
        stream: &str,
        container: &str,
        fd: i32,
        head: &[u8],
        dialogue: &str,
        ports: Vec<(u8, i32, i32)>,
        silence_ms: f64,
    ) -> PyResult<u64> {
        // Taken over first, so that they are closed whatever is wrong with the rest.
        let (socket, pairs) = (net::own_tcp_socket(fd), port_pairs(&ports));
        let socket = socket.map_err(|_| PyValueError::new_err("fd"))?;
        let pairs = pairs.map_err(|_| PyValueError::new_err("ports"))?;
        let container = Container::from_name(container)
            .ok_or_else(|| PyValueError::new_err(format!("container: {container}")))?;
        let dialogue = match dialogue {
            "" => Dialogue::Silent,
            "websocket" => Dialogue::WebSocket(websocket::Reader::new()),
            "rtsp" if pairs.is_empty() => Dialogue::Rtsp(rtsp::Reader::new()),
            "rtsp" => Dialogue::RtspOverUdp(rtsp::Reader::new(), Datagrams::new(pairs, silence_ms)),
            other => return Err(PyValueError::new_err(format!("dialogue: {other}"))),
        };
        let head = Bytes::copy_from_slice(head);
        py.detach(|| self.0.attach(stream, container, socket, head, dialogue))
            .map_err(|e| python_error(&e, stream))
    }

    fn add_peer(&self, py: Python<'_>, stream: &str, offer: String) -> PyResult<(u64, String)> {
        py.detach(|| self.0.add_peer(stream, offer)).map_err(|e| python_error(&e, stream))
    }

    fn detach(&self, py: Python<'_>, viewer: u64) -> PyResult<()> {
        py.detach(|| self.0.detach(viewer)).map_err(|e| python_error(&e, &viewer.to_string()))
    }

    fn stats<'py>(&self, py: Python<'py>, stream: &str) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.0.stats(stream)).map_err(|e| python_error(&e, stream))?;
        stats_dict(py, &stats)
    }

    fn describe<'py>(&self, py: Python<'py>, stream: &str) -> PyResult<Bound<'py, PyDict>> {
        let found = py.detach(|| self.0.describe(stream)).map_err(|e| python_error(&e, stream))?;
        let sets: Vec<_> = found.parameter_sets.iter().map(|set| PyBytes::new(py, set)).collect();
        let dict = PyDict::new(py);
        dict.set_item("video_codec", found.video_codec)?;
        dict.set_item("parameter_sets", sets)?;
        dict.set_item("audio_codec", found.audio_codec)?;
        let config = found.aac.map(|aac| (aac.rate_hz(), aac.channels, aac.audio_specific_config()));
        let (rate_hz, channels, config) = config.unwrap_or_default();
        dict.set_item("aac_rate_hz", rate_hz)?;
        dict.set_item("aac_channels", channels)?;
        dict.set_item("aac_config", PyBytes::new(py, if rate_hz == 0 { &[] } else { &config }))?;
        Ok(dict)
    }

    fn viewer_stats<'py>(&self, py: Python<'py>, viewer: u64) -> PyResult<Bound<'py, PyDict>> {
        let stats =
            py.detach(|| self.0.viewer_stats(viewer)).map_err(|e| python_error(&e, &viewer.to_string()))?;
        let dict = PyDict::new(py);
        dict.set_item("id", stats.id)?;
        dict.set_item("stream", &stats.stream)?;
        dict.set_item("container", stats.container)?;
        dict.set_item("bytes", stats.bytes)?;
        dict.set_item("frames", stats.frames)?;
        dict.set_item("skipped", stats.skipped)?;
        dict.set_item("queued_bytes", stats.queued_bytes)?;
        dict.set_item("reported_loss_rate", stats.reported.map(|r| r.loss_rate))?;
        dict.set_item("reported_lost", stats.reported.map(|r| r.lost))?;
        dict.set_item("reported_jitter", stats.reported.map(|r| r.jitter))?;
        Ok(dict)
    }

    fn streams(&self) -> Vec<String> {
        self.0.streams()
    }

    fn snapshot_gop<'py>(&self, py: Python<'py>, stream: &str) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.0.snapshot_gop(stream)).map_err(|e| python_error(&e, stream))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn shutdown(&self, py: Python<'_>) {
        py.detach(|| self.0.shutdown());
    }
}

/// A camera's sender.
#[pyclass(frozen, module = "tongshi._media")]
struct PsSender(Mutex<sender::PsSender>);

impl PsSender {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut sender::PsSender) -> io::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
            .map_err(|e| io_error(&e))
    }
}

#[pymethods]
impl PsSender {
    #[new]
    #[pyo3(signature = (transport, local_host, local_port, ssrc, video, audio="", payload_type=96, rate_kbps=0,
                        mtu=1400))]
    #[allow(clippy::too_many_arguments)] // Arguments of the contract.
    fn new(
        transport: &str,
        local_host: &str,
        local_port: u16,
        ssrc: u32,
        video: &str,
        audio: &str,
        payload_type: u8,
        rate_kbps: u64,
        mtu: usize,
    ) -> PyResult<Self> {
        let options = SenderOptions {
            transport: self::transport(transport)?,
            local: address(local_host, local_port)?,
            ssrc,
            video: codec(video)?,
            audio: optional_codec(audio)?,
            payload_type,
            rate_bps: rate_kbps.saturating_mul(1000),
            mtu,
        };
        sender::PsSender::new(options).map(|s| Self(Mutex::new(s))).map_err(|e| io_error(&e))
    }

    #[getter]
    fn local_port(&self, py: Python<'_>) -> PyResult<u16> {
        self.with(py, |s| Ok(s.local_port()))
    }

    fn connect(&self, py: Python<'_>, host: &str, port: u16) -> PyResult<()> {
        let peer = address(host, port)?;
        self.with(py, |s| s.connect(peer))
    }

    fn send_video(&self, py: Python<'_>, annexb: &[u8], pts_90k: u64, key: bool) -> PyResult<usize> {
        self.with(py, |s| s.send_video(annexb, pts_90k, key))
    }

    fn send_audio(&self, py: Python<'_>, payload: &[u8], pts_90k: u64) -> PyResult<usize> {
        self.with(py, |s| s.send_audio(payload, pts_90k))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |s| {
            s.close();
            Ok(())
        })
    }
}

/// Multiplex frames into one PS byte string.
#[pyfunction]
#[pyo3(signature = (frames, video, audio=""))]
fn ps_mux<'py>(
    py: Python<'py>,
    frames: Vec<(String, Vec<u8>, u64, bool)>,
    video: &str,
    audio: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut muxer = PsMuxer::new(Some(codec(video)?), optional_codec(audio)?);
    let mut out = Vec::new();
    for (kind, payload, pts, key) in frames {
        match kind.as_str() {
            "video" => muxer.write_video(&payload, pts, key, &mut out),
            "audio" => muxer.write_audio(&payload, pts, &mut out),
            other => return Err(PyValueError::new_err(format!("video or audio, not {other}"))),
        };
    }
    Ok(PyBytes::new(py, &out))
}

type PyFrame<'py> = (&'static str, Bound<'py, PyBytes>, u64, bool);

/// Demultiplex PS bytes; garbage is skipped.
#[pyfunction]
fn ps_demux<'py>(py: Python<'py>, data: &[u8]) -> Vec<PyFrame<'py>> {
    let mut frames = Vec::new();
    let mut demuxer = PsDemuxer::new();
    for part in data.chunks(DEMUX_STEP) {
        demuxer.push(part, 0, false, &mut |frame| frames.push(frame));
    }
    demuxer.flush(&mut |frame| frames.push(frame));
    frames.iter().map(|f| (f.codec.name(), PyBytes::new(py, &f.data), f.pts, f.key)).collect()
}

/// One measured round of one case.
#[pyfunction]
fn bench_media(py: Python<'_>, case: &str, options: HashMap<String, f64>) -> PyResult<HashMap<String, f64>> {
    let case = bench::Case::from_name(case).ok_or_else(|| PyValueError::new_err(format!("case: {case}")))?;
    let options = bench::BenchOptions::from_map(&options)
        .map_err(|name| PyValueError::new_err(format!("no such option: {name}")))?;
    let figures = py.detach(|| bench::run(case, &options)).map_err(|e| python_error(&e, ""))?;
    Ok(figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[pymodule]
fn _media(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SOURCE_DIGEST", env!("SOURCE_DIGEST"))?;
    module.add("OfferRefused", module.py().get_type::<OfferRefused>())?;
    module.add_class::<Engine>()?;
    module.add_class::<PsSender>()?;
    module.add_function(wrap_pyfunction!(ps_mux, module)?)?;
    module.add_function(wrap_pyfunction!(ps_demux, module)?)?;
    module.add_function(wrap_pyfunction!(bench_media, module)?)
}
