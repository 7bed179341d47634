//! Readiness: one epoll and the eventfds that wake it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Most readiness reports taken in one wake-up.
const EVENTS: usize = 1024;

/// What one descriptor is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer closed, half-closed or reset.
    pub hung_up: bool,
}

/// An edge-triggered epoll.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the descriptor is ours alone when the call succeeds.
        let epoll = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    fn control(&self, op: libc::c_int, fd: RawFd, bits: libc::c_int, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: bits as u32, u64: token };
        // SAFETY: the event is live during the call, which only reads it.
        let rc = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), op, fd, &raw mut event) };
        if rc == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Report input and closing.
    pub fn watch_input(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET, token)
    }

    /// Report that output is possible, and closing; input is left unread.
    pub fn watch_output(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET, token)
    }

    /// Report input, output and closing.
    pub fn watch_both(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let bits = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, fd, bits, token)
    }

    /// Stop watching; closing the descriptor does the same.
    pub fn forget(&self, fd: RawFd) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// Wait for readiness, at most `timeout` (None: for ever), and append what is ready. True when there may be more.
    pub fn wait(&mut self, timeout: Option<Duration>, into: &mut Vec<Ready>) -> io::Result<bool> {
        let timeout_ms =
            timeout.map_or(-1, |t| i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        // SAFETY: the array is live and has room for EVENTS entries.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as libc::c_int,
                timeout_ms,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        let count = count as usize;
        into.extend(self.events[..count].iter().map(|e| {
            let bits = e.events as libc::c_int;
            Ready {
                token: e.u64,
                readable: bits & libc::EPOLLIN != 0,
                writable: bits & libc::EPOLLOUT != 0,
                hung_up: bits & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0,
            }
        }));
        Ok(count == EVENTS)
    }
}

/// A counter that wakes an epoll or an event loop of another language.
pub struct EventFd(File);

impl EventFd {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the descriptor is ours alone when the call succeeds.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(File::from_raw_fd(fd)))
        }
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Make it readable. A full counter is readable already, so the error says nothing new.
    pub fn signal(&self) {
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Make it unreadable.
    pub fn clear(&self) {
        let _ = (&self.0).read(&mut [0u8; 8]);
    }
}
