//! Many datagrams a system call: recvmmsg with UDP_GRO, sendmmsg with UDP_SEGMENT.
//!
//! GRO (receive) and GSO (send) let one buffer carry many datagrams of equal size, the last may be shorter. Together
//! with a tick that gathers work they take more than half of the cost of a datagram away. The ancillary bytes are
//! read and written by hand, because libc's macros are no safer and hide the layout.

use socket2::SockAddr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// Largest UDP payload; a GRO buffer is never larger.
pub const MAX_DATAGRAM: usize = 65_536;

/// Most datagrams in one GSO send (UDP_MAX_SEGMENTS of older kernels).
pub const MAX_SEGMENTS: usize = 64;

/// Largest GSO send: 65,535 minus the IP and UDP headers, of IPv6.
const MAX_GSO_BYTES: usize = 65_000;

/// Buffers of one receive call. Most ingests hand over one or two GRO buffers a tick.
const RECEIVES: usize = 32;

/// Messages of one send call.
const SENDS: usize = 64;

/// Room for one ancillary message of an int or a u16: header (16) and value padded to 8.
const CONTROL_BYTES: usize = 24;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// Room for an address of either family (sockaddr_in6).
const NAME_BYTES: usize = 28;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Name([u8; NAME_BYTES]);

const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();

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
        let mut controls = vec![Control([0; CONTROL_BYTES]); count];
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

fn gro_size(control: &[u8]) -> Option<usize> {
    let level = i32::from_ne_bytes(control.get(8..12)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(control.get(12..16)?.try_into().ok()?);
    let size = i32::from_ne_bytes(control.get(16..20)?.try_into().ok()?);
    (level == libc::SOL_UDP && kind == libc::UDP_GRO && size > 0).then_some(size as usize)
}

/// A run of bytes that is sent as datagrams of `segment` bytes, the last one shorter or equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub start: usize,
    pub length: usize,
    pub segment: usize,
}

impl Group {
    /// Append a datagram of `length` bytes that lies right behind the groups so far.
    ///
    /// It joins the last group when that keeps all but the last datagram equal and the group within its bounds.
    pub fn append(groups: &mut Vec<Group>, length: usize) {
        let start = groups.last().map_or(0, |g| g.start + g.length);
        if let Some(last) = groups.last_mut() {
            let is_open = last.length % last.segment == 0 && last.length / last.segment < MAX_SEGMENTS;
            if is_open && length <= last.segment && last.length + length <= MAX_GSO_BYTES {
                last.length += length;
                return;
            }
        }
        groups.push(Group { start, length, segment: length.max(1) });
    }
}

/// Reused headers for one send call.
pub struct SendBatch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
    /// Where to, when the socket itself does not say.
    to: Option<SockAddr>,
}

impl SendBatch {
    pub fn new() -> Self {
        // SAFETY: mmsghdr is plain integers and pointers, for which zero is "none".
        let headers = vec![unsafe { std::mem::zeroed::<libc::mmsghdr>() }; SENDS];
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            headers,
            vectors: vec![none; SENDS],
            controls: vec![Control([0; CONTROL_BYTES]); SENDS],
            to: None,
        }
    }

    /// Send groups of `data` on a connected UDP socket; returns the count of datagrams the kernel refused.
    ///
    /// `has_gso` belongs to the socket; it turns false when its route or the kernel cannot segment. A full socket
    /// buffer drops the rest, as a network would. An ICMP answer of an earlier send (refused) is no reason to stop:
    /// the peer may open its port a moment later.
    pub fn send(&mut self, fd: RawFd, data: &[u8], groups: &[Group], has_gso: &mut bool) -> usize {
        if *has_gso {
            self.send_groups(fd, data, groups, has_gso)
        } else {
            self.send_singly(fd, data, groups)
        }
    }

    /// The same from a socket that is not connected.
    pub fn send_to(
        &mut self,
        fd: RawFd,
        to: SocketAddr,
        data: &[u8],
        groups: &[Group],
        has_gso: &mut bool,
    ) -> usize {
        self.to = Some(to.into());
        let refused = self.send(fd, data, groups, has_gso);
        self.to = None;
        refused
    }

    fn send_groups(&mut self, fd: RawFd, data: &[u8], groups: &[Group], has_gso: &mut bool) -> usize {
        let mut done = 0;
        let mut failures = 0;
        while done < groups.len() {
            match self.send_mmsg(fd, data, &groups[done..]) {
                Ok(count) => done += count.max(1),
                Err(e) if matches!(e.raw_os_error(), Some(libc::EIO | libc::EINVAL)) && *has_gso => {
                    *has_gso = false;
                    return self.send_singly(fd, data, &groups[done..]);
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && failures < groups.len() => {
                    failures += 1
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return groups[done..].iter().map(|g| g.length.div_ceil(g.segment)).sum(),
            }
        }
        0
    }

    fn send_singly(&mut self, fd: RawFd, data: &[u8], groups: &[Group]) -> usize {
        let mut singles = Vec::new();
        for group in groups {
            let end = group.start + group.length;
            let mut start = group.start;
            while start < end {
                let length = group.segment.min(end - start);
                singles.push(Group { start, length, segment: length });
                start += length;
            }
        }
        self.send_groups(fd, data, &singles, &mut false)
    }

    fn send_mmsg(&mut self, fd: RawFd, data: &[u8], groups: &[Group]) -> io::Result<usize> {
        let count = groups.len().min(SENDS);
        for (i, group) in groups[..count].iter().enumerate() {
            let part = &data[group.start..group.start + group.length];
            self.vectors[i] = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_iov = &raw mut self.vectors[i];
            header.msg_iovlen = 1;
            (header.msg_name, header.msg_namelen) = match &self.to {
                Some(to) => (to.as_ptr().cast_mut().cast(), to.len()),
                None => (std::ptr::null_mut(), 0),
            };
            if group.length > group.segment {
                self.controls[i] = segment_control(group.segment);
                header.msg_control = (&raw mut self.controls[i]).cast();
                header.msg_controllen = CONTROL_BYTES;
            } else {
                header.msg_control = std::ptr::null_mut();
                header.msg_controllen = 0;
            }
        }
        // SAFETY: headers 0..count point to vectors, controls and the address of this struct and to parts of `data`, all live
        // during the call, which only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                fd,
                self.headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(sent as usize)
        }
    }
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

fn segment_control(segment: usize) -> Control {
    let mut control = [0u8; CONTROL_BYTES];
    control[..8].copy_from_slice(&(CMSG_HEADER + 2).to_ne_bytes());
    control[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    control[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    control[16..18].copy_from_slice(&(segment as u16).to_ne_bytes());
    Control(control)
}

// SAFETY: the raw pointers inside point only to heap memory owned by the same value, which moves with it.
unsafe impl Send for RecvBatch {}
// SAFETY: as above; between two calls the pointers are not read.
unsafe impl Send for SendBatch {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{bind_udp, enable_gro, fd};

    fn group(lengths: &[usize]) -> Vec<Group> {
        let mut groups = Vec::new();
        for &length in lengths {
            Group::append(&mut groups, length);
        }
        groups
    }

    #[test]
    fn a_shorter_datagram_ends_its_group() {
        assert_eq!(
            group(&[1000, 1000, 300, 300]),
            [
                Group { start: 0, length: 2300, segment: 1000 },
                Group { start: 2300, length: 300, segment: 300 }
            ]
        );
    }

    #[test]
    fn a_longer_datagram_opens_a_new_group() {
        assert_eq!(group(&[300, 1000]).len(), 2);
    }

    #[test]
    fn a_group_stays_within_the_kernels_bounds() {
        let groups = group(&[100; 200]);
        assert!(groups.iter().all(|g| g.length / g.segment <= MAX_SEGMENTS));
        let groups = group(&[1400; 200]);
        assert!(groups.iter().all(|g| g.length <= MAX_GSO_BYTES));
        assert_eq!(groups.iter().map(|g| g.length).sum::<usize>(), 1400 * 200);
    }

    fn loop_back(mut gso: bool, gro: bool) {
        let (receiver, port) = bind_udp(([127, 0, 0, 1], 0).into()).unwrap();
        if gro {
            assert!(enable_gro(fd(&receiver)));
        }
        let (socket, _) = bind_udp(([127, 0, 0, 1], 0).into()).unwrap();
        socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        let data: Vec<u8> = (0..5 * 1000 + 123u32).map(|i| (i / 1000) as u8).collect();
        let groups = group(&[1000, 1000, 1000, 1000, 1000, 123]);
        assert_eq!(SendBatch::new().send(fd(&socket), &data, &groups, &mut gso), 0);
        let mut batch = RecvBatch::new();
        let mut sizes = Vec::new();
        while sizes.len() < 6 {
            let (count, _) = batch.receive(fd(&receiver)).unwrap();
            for i in 0..count {
                let (bytes, segment) = batch.get(i);
                for part in bytes.chunks(segment) {
                    assert!(part.iter().all(|&b| b as usize == sizes.len()));
                    sizes.push(part.len());
                }
            }
        }
        assert_eq!(sizes, [1000, 1000, 1000, 1000, 1000, 123]);
    }

    #[test]
    fn segmented_sends_arrive_as_single_datagrams_with_and_without_gro() {
        loop_back(true, true);
        loop_back(true, false);
    }

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

    #[test]
    fn plain_sends_arrive_the_same() {
        loop_back(false, true);
    }
}
