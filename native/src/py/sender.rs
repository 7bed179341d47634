//! A camera's sender; and program stream made and taken apart without one.

use super::arguments::{address, codec, io_error, optional_codec};
use crate::ps_demux::PsDemuxer;
use crate::ps_mux::PsMuxer;
use crate::sender::{self, SenderOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io;
use std::sync::{Mutex, PoisonError};

/// What one packet would carry; a whole file in one piece is not what the demultiplexer is made for.
const DEMUX_STEP: usize = 1400;

/// A camera's sender.
#[pyclass(frozen, module = "tongshi._media")]
pub(super) struct PsSender(Mutex<sender::PsSender>);

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
            transport: super::arguments::transport(transport)?,
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
pub(super) fn ps_mux<'py>(
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
pub(super) fn ps_demux<'py>(py: Python<'py>, data: &[u8]) -> Vec<PyFrame<'py>> {
    let mut frames = Vec::new();
    let mut demuxer = PsDemuxer::new();
    for part in data.chunks(DEMUX_STEP) {
        demuxer.push(part, 0, false, &mut |frame| frames.push(frame));
    }
    demuxer.flush(&mut |frame| frames.push(frame));
    frames.iter().map(|f| (f.codec.name(), PyBytes::new(py, &f.data), f.pts, f.key)).collect()
}
