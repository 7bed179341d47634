//! Many datagrams a send call: sendmmsg with UDP_SEGMENT.
//!
//! GSO lets one buffer carry many datagrams of equal size, the last may be shorter.

use super::ancillary::{Control, CONTROL_BYTES};
use socket2::SockAddr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Most datagrams in one GSO send (UDP_MAX_SEGMENTS of older kernels).
pub const MAX_SEGMENTS: usize = 64;

/// Largest GSO send: 65,535 minus the IP and UDP headers, of IPv6.
const MAX_GSO_BYTES: usize = 65_000;

/// Messages of one send call.
const SENDS: usize = 64;

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
        Self { headers, vectors: vec![none; SENDS], controls: vec![Control::EMPTY; SENDS], to: None }
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
                self.controls[i] = Control::of_segments(group.segment);
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

// SAFETY: the raw pointers inside point to heap memory owned by the same value, which moves with it, and to what a call
// of [`SendBatch::send`] borrows; they are written anew by each call, and between two calls nobody reads them.
unsafe impl Send for SendBatch {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{bind_udp, enable_gro, fd, RecvBatch};

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
    fn plain_sends_arrive_the_same() {
        loop_back(false, true);
    }
}
