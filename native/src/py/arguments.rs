//! Python's arguments as ours, and our errors as Python's.

use super::OfferRefused;
use crate::engine::{EngineError, Transport, WebrtcOptions};
use crate::frame::Codec;
use crate::net;
use crate::viewer::datagrams::PortPair;
use pyo3::exceptions::{PyBrokenPipeError, PyKeyError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::io;
use std::net::{IpAddr, SocketAddr};

pub(super) fn io_error(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        // Python chooses the subclass by the number.
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None if error.kind() == io::ErrorKind::BrokenPipe => PyBrokenPipeError::new_err(error.to_string()),
        None if error.kind() == io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
        None => PyOSError::new_err(error.to_string()),
    }
}

/// An engine error as Python's; `name` is what was asked for.
pub(super) fn python_error(error: &EngineError, name: &str) -> PyErr {
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

pub(super) fn address(host: &str, port: u16) -> PyResult<SocketAddr> {
    let ip: IpAddr =
        host.parse().map_err(|_| PyValueError::new_err(format!("not a numeric address: {host}")))?;
    Ok(SocketAddr::new(ip, port))
}

/// Where WebRTC is received; an empty host is nowhere, an empty public address the same as the host.
pub(super) fn webrtc_options(host: &str, port: u16, public: &str) -> PyResult<Option<WebrtcOptions>> {
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

pub(super) fn transport(name: &str) -> PyResult<Transport> {
    Transport::from_name(name).ok_or_else(|| PyValueError::new_err(format!("transport: {name}")))
}

pub(super) fn codec(name: &str) -> PyResult<Codec> {
    Codec::from_name(name).ok_or_else(|| PyValueError::new_err(format!("codec: {name}")))
}

pub(super) fn optional_codec(name: &str) -> PyResult<Option<Codec>> {
    if name.is_empty() {
        return Ok(None);
    }
    codec(name).map(Some)
}

/// Take over pairs of UDP sockets; all are closed when one is wrong.
pub(super) fn port_pairs(ports: &[(u8, i32, i32)]) -> io::Result<Vec<PortPair>> {
    let owned: Vec<_> = ports
        .iter()
        .map(|&(channel, rtp, rtcp)| (channel, net::own_udp_socket(rtp), net::own_udp_socket(rtcp)))
        .collect();
    owned.into_iter().map(|(channel, rtp, rtcp)| Ok(PortPair { channel, rtp: rtp?, rtcp: rtcp? })).collect()
}
