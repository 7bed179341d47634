//! Many datagrams a receive call: recvmmsg with UDP_GRO.
//!
//! GRO lets one buffer carry many datagrams of equal size, the last may be shorter. Together with a tick that gathers
//! work it takes more than half of the cost of a datagram away.

use super::ancillary::{gro_size, Control, CONTROL_BYTES};
use super::send::Group;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// Largest UDP payload; a GRO buffer is never larger.
pub const MAX_DATAGRAM: usize = 65_536;

/// Buffers of one receive call. Most ingests hand over one or two GRO buffers a tick.
const RECEIVES: usize = 32;

/// Room for an address of either family (sockaddr_in6).
const NAME_BYTES: usize = 28;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Name([u8; NAME_BYTES]);

/// Reused buffers for one receive call.
pub struct RecvBatch {
    buffers: Vec<u8>,
    /// Size of one buffer.
    stride: usize,
    headers: Vec<libc::mmsghdr>,
    // The next two and `names` are pointed to by `headers`; their heap addresses never change.
    _vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
    /// Where each buffer came from; empty when nobody asks.
    names: Vec<Name>,
}

impl RecvBatch {
    pub fn new() -> Self {
        Self::sized(RECEIVES, MAX_DATAGRAM)
    }

    /// A batch that also tells where its buffers came from.
    pub fn with_sources() -> Self {
        let mut batch = Self::new();
        batch.names = vec![Name([0; NAME_BYTES]); batch.headers.len()];
        for (header, name) in batch.headers.iter_mut().zip(&mut batch.names) {
            header.msg_hdr.msg_name = (&raw mut *name).cast();
        }
        batch
    }

    /// A batch of `count` buffers of `stride` bytes each.
    pub fn sized(count: usize, stride: usize) -> Self {
        let mut buffers = vec![0u8; count * stride];
        let mut controls = vec![Control::EMPTY; count];
        let base = buffers.as_mut_ptr();
        let mut vectors: Vec<libc::iovec> = (0..count)
            .map(|i| libc::iovec { iov_base: base.wrapping_add(i * stride).cast(), iov_len: stride })
            .collect();
        let headers = (0..count)
            .map(|i| {
                // SAFETY: mmsghdr is plain integers and pointers, for which zero is "none".
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = &raw mut vectors[i];
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = (&raw mut controls[i]).cast();
                header.msg_hdr.msg_controllen = CONTROL_BYTES;
                header
            })
            .collect();
        Self { buffers, stride, headers, _vectors: vectors, controls, names: Vec::new() }
    }

    /// Receive what waits; returns the count of buffers filled and whether more may wait.
    pub fn receive(&mut self, fd: RawFd) -> io::Result<(usize, bool)> {
        if !self.names.is_empty() {
            // The kernel wrote the used lengths.
            self.headers.iter_mut().for_each(|header| header.msg_hdr.msg_namelen = NAME_BYTES as u32);
        }
        // SAFETY: every header points to buffers of this struct, which live and stay in place during the call.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                self.headers.len() as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        let count = count as usize;
        Ok((count, count == self.headers.len()))
    }

    /// Buffer `index` of the last receive and the size of the datagrams in it (the last may be shorter).
    pub fn get(&mut self, index: usize) -> (&[u8], usize) {
        let header = &mut self.headers[index];
        let length = (header.msg_len as usize).min(self.stride);
        let control = &self.controls[index].0;
        let segment =
            gro_size(&control[..header.msg_hdr.msg_controllen.min(CONTROL_BYTES)]).unwrap_or(length);
        // The kernel wrote the used length; the next receive needs the whole room again.
        header.msg_hdr.msg_controllen = CONTROL_BYTES;
        let start = index * self.stride;
        (&self.buffers[start..start + length], segment.max(1))
    }

    /// Where buffer `index` of the last receive came from; None when the batch was not made to tell.
    pub fn source(&self, index: usize) -> Option<SocketAddr> {
        socket_address(&self.names.get(index)?.0)
    }

    /// All buffers, one every `stride` bytes; [`Self::group`] says what lies in each.
    pub fn bytes(&self) -> &[u8] {
        &self.buffers
    }

    /// Datagram `index` of the last receive, as something to send on.
    pub fn group(&self, index: usize) -> Group {
        let length = (self.headers[index].msg_len as usize).min(self.stride);
        Group { start: index * self.stride, length, segment: length.max(1) }
    }
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// A sockaddr_in or sockaddr_in6.
fn socket_address(name: &[u8; NAME_BYTES]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([name[0], name[1]]));
    let port = u16::from_be_bytes([name[2], name[3]]);
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some((Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            Some((Ipv6Addr::from(ip), port).into())
        }
        _ => None,
    }
}

// SAFETY: the raw pointers inside point only to heap memory owned by the same value, which moves with it.
unsafe impl Send for RecvBatch {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{bind_udp, fd};

    #[test]
    fn a_batch_with_sources_tells_where_each_buffer_came_from() {
        for ip in [std::net::IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()] {
            let Ok((receiver, port)) = bind_udp((ip, 0).into()) else { continue }; // a machine without IPv6
            let mut batch = RecvBatch::with_sources();
            for _ in 0..2 {
                let (sender, sender_port) = bind_udp((ip, 0).into()).unwrap();
                sender.connect(&SocketAddr::from((ip, port)).into()).unwrap();
                sender.send(b"x").unwrap();
                let (count, _) = batch.receive(fd(&receiver)).unwrap();
                assert_eq!((count, batch.source(0)), (1, Some((ip, sender_port).into())));
            }
        }
        assert_eq!(RecvBatch::new().source(0), None);
    }
}
