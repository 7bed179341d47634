//! A connected sender: its socket, and the packets cut out of what it sends.
//!
//! Implements: GB/T 28181-2022 D

use super::context::Context;
use crate::net::{self, Ready};
use crate::tcp_framing::Deframer;
use socket2::Socket;
use std::io;

/// Receive calls in one turn of one socket; others wait meanwhile.
pub(super) const TURNS: usize = 16;

/// A connected sender.
pub(super) struct Connection {
    socket: Socket,
    pub(super) token: u64,
    deframer: Deframer,
    pub(super) opened_ms: f64,
}

impl Connection {
    pub(super) fn new(socket: Socket, token: u64, opened_ms: f64) -> Self {
        Self { socket, token, deframer: Deframer::new(), opened_ms }
    }

    /// Close it.
    pub(super) fn forget(self, context: &mut Context) {
        context.forget(net::fd(&self.socket), self.token);
    }

    /// Read before anybody knows whose it is; what is left comes again with the next turn.
    pub(super) fn read_once(
        &mut self,
        context: &mut Context,
        ready: Ready,
        take: &mut impl FnMut(&[u8]),
    ) -> std::result::Result<(), &'static str> {
        let mut buffer = std::mem::take(&mut context.tcp_buffer);
        let read = io::Read::read(&mut &self.socket, &mut buffer);
        let result = match read {
            Ok(0) => Err("eof"),
            Ok(length) => {
                context.unfinished.push(ready);
                self.deframer.push(&buffer[..length], take).map_err(|_| "framing lost")
            }
            Err(e) if net::is_blocked(&e) => Ok(()),
            Err(e) => Err(net::reason(&e)),
        };
        context.tcp_buffer = buffer;
        result
    }

    pub(super) fn read(
        &mut self,
        context: &mut Context,
        buffer: &mut [u8],
        ready: Ready,
        take: &mut impl FnMut(&mut Context, &[u8]),
    ) -> std::result::Result<(), &'static str> {
        for _ in 0..TURNS {
            let length = match io::Read::read(&mut &self.socket, buffer) {
                Ok(0) => return Err("eof"),
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if net::is_blocked(&e) => return Ok(()),
                Err(e) => return Err(net::reason(&e)),
            };
            self.deframer
                .push(&buffer[..length], &mut |packet| take(context, packet))
                .map_err(|_| "framing lost")?;
            // A short read emptied the socket, and later bytes are a new edge; a close has its own, seen already.
            if length < buffer.len() && !ready.hung_up {
                return Ok(());
            }
        }
        context.unfinished.push(ready);
        Ok(())
    }
}
