//! The engine: each call releases the interpreter while it waits.

use super::arguments::{address, codec, port_pairs, python_error, webrtc_options};
use super::figures::{description_dict, event_dict, port_dict, stats_dict, viewer_dict};
use crate::demux::PayloadType;
use crate::engine::{self, Options, RelayTarget, Transport};
use crate::frame::Codec;
use crate::net;
use crate::viewer::datagrams::Datagrams;
use crate::viewer::{rtsp, websocket, Container, Dialogue};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::time::Duration;

/// Payload types have seven bits.
const MAX_PAYLOAD_TYPES: usize = 128;

/// One engine: its own threads, sockets and streams.
#[pyclass(frozen, module = "tongshi._media")]
pub(super) struct Engine(engine::Engine);

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
            ..Options::default()
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
        taken.iter().map(|event| event_dict(py, event)).collect()
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
        let (transport, local) = (super::arguments::transport(transport)?, address(host, port)?);
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
        let (transport, local) = (super::arguments::transport(transport)?, address(host, port)?);
        let stats = py
            .detach(|| self.0.port_stats(transport, local))
            .map_err(|e| python_error(&e, &local.to_string()))?;
        port_dict(py, &stats)
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
        let transport = super::arguments::transport(transport)?;
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
        description_dict(py, &found)
    }

    fn viewer_stats<'py>(&self, py: Python<'py>, viewer: u64) -> PyResult<Bound<'py, PyDict>> {
        let stats =
            py.detach(|| self.0.viewer_stats(viewer)).map_err(|e| python_error(&e, &viewer.to_string()))?;
        viewer_dict(py, &stats)
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
