//! The relays of a stream: opening, connecting, retrying, closing.
//!
//! Implements: GB/T 28181-2022 D (connection roles, retries)

use super::context::{Context, Interest, Part};
use super::source::{Transport, RETRIES, RETRY_MS};
use super::stream::Stream;
use super::{EngineError, RelayTarget, Result};
use crate::events::Kind;
use crate::net::{self, Ready};
use crate::relay::{Link, Relay, Target};
use std::net::SocketAddr;

/// Spacing of the parts of a cached group on its way to a relay.
const BURST_PACE_MS: f64 = 4.0;

impl Stream {
    /// Add a relay; returns its local port.
    pub fn add_relay(&mut self, context: &mut Context, id: u64, target: RelayTarget) -> Result<u16> {
        let (link, interest, port) = open_link(&target)?;
        let mut relay = Relay::new(id, link, target.ssrc, target.payload_type);
        if let Some(socket) = relay.socket() {
            relay.token = context.watch(net::fd(socket), interest, self.key, Part::Relay(id))?;
        }
        if matches!(relay.link, Link::Udp(_)) {
            relay.begin(self.pipeline.gop(), self.pipeline.last_timestamp());
        }
        self.outlets.relays.push(relay);
        context.relay_added(id, self.key);
        self.flush_relays(context);
        Ok(port)
    }

    /// Close a relay; false when there is none of this id.
    pub fn remove_relay(&mut self, context: &mut Context, id: u64) -> bool {
        let Some(at) = self.outlets.relays.iter().position(|r| r.id == id) else { return false };
        let relay = self.outlets.relays.swap_remove(at);
        context.relay_removed(id);
        if let Some(socket) = relay.socket() {
            context.forget(net::fd(socket), relay.token);
        }
        true
    }

    pub(super) fn flush_relays(&mut self, context: &mut Context) {
        let mut ended = Vec::new();
        for relay in &mut self.outlets.relays {
            if relay.has_burst() {
                relay.pump(&mut context.sending.batch);
                if relay.has_burst() {
                    context.care_in(BURST_PACE_MS);
                }
            }
            if let Err(e) = relay.flush() {
                ended.push((relay.id, net::reason(&e)));
            }
        }
        for (id, word) in ended {
            self.end_relay(context, id, word);
        }
    }

    fn end_relay(&mut self, context: &mut Context, id: u64, word: &'static str) {
        if self.remove_relay(context, id) {
            context.announce(Kind::RelayClosed, &self.name, id, word);
        }
    }

    pub(super) fn on_relay_ready(&mut self, context: &mut Context, ready: Ready, id: u64) {
        let key = self.key;
        let Some(relay) = self.outlets.relay(id) else { return };
        match &relay.link {
            Link::Udp(_) | Link::Resting { .. } => {}
            Link::Listening(listener) => {
                let Ok(Some(peer)) = net::accept(listener) else { return };
                context.forget(net::fd(listener), relay.token);
                let Ok(token) = context.watch(net::fd(&peer), Interest::Both, key, Part::Relay(id)) else {
                    return self.end_relay(context, id, "error");
                };
                relay.token = token;
                // One receiver a relay: the port is closed once it has come.
                relay.link = Link::Connected(peer);
                self.begin_relay(context, id);
            }
            Link::Connecting { .. } => self.finish_relay_connect(context, id),
            Link::Connected(socket) => {
                if ready.hung_up || ready.readable && net::has_closed(socket) {
                    self.end_relay(context, id, "eof");
                } else if ready.writable {
                    relay.unblock();
                }
            }
        }
    }

    fn begin_relay(&mut self, context: &mut Context, id: u64) {
        let Self { pipeline, outlets, name, .. } = self;
        if let Some(relay) = outlets.relay(id) {
            relay.begin(pipeline.gop(), pipeline.last_timestamp());
            context.announce(Kind::Connected, name, id, "");
        }
        self.flush_relays(context);
    }

    fn finish_relay_connect(&mut self, context: &mut Context, id: u64) {
        let Some(relay) = self.outlets.relay(id) else { return };
        let Link::Connecting { socket, target } = &relay.link else { return };
        let (target, token) = (*target, relay.token);
        match socket.take_error() {
            Ok(None) if socket.peer_addr().is_ok() => {
                // The peer address is known only once the connection stands.
                let resting = Link::Resting { target, until_ms: 0.0 };
                if let Link::Connecting { socket, .. } = std::mem::replace(&mut relay.link, resting) {
                    let _ = socket.set_tcp_nodelay(true);
                    relay.link = Link::Connected(socket);
                }
                self.begin_relay(context, id);
            }
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => {
                context.forget(net::fd(socket), token);
                self.rest_relay(context, id, target, net::reason(&error));
            }
        }
    }

    fn rest_relay(&mut self, context: &mut Context, id: u64, mut target: Target, word: &'static str) {
        target.failures += 1;
        let until_ms = context.now_ms + RETRY_MS;
        let Some(relay) = self.outlets.relay(id) else { return };
        relay.link = Link::Resting { target, until_ms };
        if target.failures > RETRIES {
            self.end_relay(context, id, word);
        } else {
            context.care_at(until_ms);
        }
    }

    pub(super) fn care_for_relays(&mut self, context: &mut Context) {
        let resting: Vec<(u64, Target, f64)> = self
            .outlets
            .relays
            .iter()
            .filter_map(|r| match r.link {
                Link::Resting { target, until_ms } => Some((r.id, target, until_ms)),
                _ => None,
            })
            .collect();
        for (id, target, until_ms) in resting {
            if context.now_ms < until_ms {
                context.care_at(until_ms);
            } else {
                self.retry_relay(context, id, target);
            }
        }
        self.flush_relays(context);
    }

    fn retry_relay(&mut self, context: &mut Context, id: u64, target: Target) {
        let opened = net::bind_tcp(target.local).and_then(|(socket, _)| {
            net::begin_connect(&socket, target.peer)?;
            let token = context.watch(net::fd(&socket), Interest::Both, self.key, Part::Relay(id))?;
            Ok((socket, token))
        });
        match opened {
            Ok((socket, token)) => {
                if let Some(relay) = self.outlets.relay(id) {
                    relay.token = token;
                    relay.link = Link::Connecting { socket, target };
                }
            }
            Err(e) => self.rest_relay(context, id, target, net::reason(&e)),
        }
    }
}

/// Open the socket of a relay: link, what to watch it for, local port.
fn open_link(target: &RelayTarget) -> Result<(Link, Interest, u16)> {
    let local = target.local;
    match target.transport {
        Transport::Udp => {
            let peer = target.peer.ok_or(EngineError::Invalid("host"))?;
            let (socket, port) = net::bind_udp(local)?;
            let _ = socket.set_send_buffer_size(net::UDP_SEND_BYTES);
            socket.connect(&peer.into())?;
            Ok((Link::Udp(socket), Interest::Input, port))
        }
        Transport::TcpPassive => {
            let (socket, port) = net::bind_tcp(local)?;
            socket.listen(1)?;
            Ok((Link::Listening(socket), Interest::Input, port))
        }
        Transport::TcpActive => {
            let peer = target.peer.ok_or(EngineError::Invalid("host"))?;
            let (socket, port) = net::bind_tcp(local)?;
            net::begin_connect(&socket, peer)?;
            let target = Target { local: SocketAddr::new(local.ip(), port), peer, failures: 0 };
            Ok((Link::Connecting { socket, target }, Interest::Both, port))
        }
    }
}
