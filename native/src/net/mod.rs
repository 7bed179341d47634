//! Sockets without copies: what the standard library does not offer, each system call behind a safe function.
//!
//! All `unsafe` of the engine is in this folder, but for the writes of `frame_buffer`. Readiness is edge-triggered: a
//! reader goes on until the kernel says that nothing is left, and is not asked again before something new arrives.

mod ancillary;
mod poll;
mod recv;
mod send;

pub use poll::{EventFd, Poll, Ready};
pub use recv::{RecvBatch, MAX_DATAGRAM};
pub use send::{Group, SendBatch, MAX_SEGMENTS};

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;

/// Wanted receive buffer of one UDP ingest: two seconds of an 8 Mbit/s stream with the kernel's overhead.
pub const UDP_RECEIVE_BYTES: usize = 8 << 20;

/// Wanted receive buffer of a UDP port that many streams share.
pub const UDP_SHARED_RECEIVE_BYTES: usize = 64 << 20;

/// Wanted send buffer of one UDP relay.
pub const UDP_SEND_BYTES: usize = 1 << 20;

/// Freed memory that the allocator may keep at the end of an arena.
const KEPT_BYTES: usize = 32 << 20;

/// Larger pieces are mapped on their own and unmapped when they are freed; a usual key frame is smaller.
const KEPT_IN_ONE: usize = 1 << 20;

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and length describe one live value, which the kernel only reads.
    let rc = unsafe {
        libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t)
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ask for a large receive buffer: past rmem_max when we are privileged, up to it otherwise. False when it came to less.
pub fn enlarge_receive_buffer(socket: &Socket, bytes: usize) -> bool {
    let value = bytes as libc::c_int;
    if set_option(fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &value).is_err() {
        // A smaller buffer than wanted is no error: drops are counted by the kernel and shown in the statistics.
        let _ = set_option(fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUF, &value);
    }
    socket.recv_buffer_size().is_ok_and(|size| size >= bytes)
}

/// Let the kernel hand over several datagrams of one sender as one buffer. False when it does not know how.
pub fn enable_gro(fd: RawFd) -> bool {
    set_option(fd, libc::SOL_UDP, libc::UDP_GRO, &1i32).is_ok()
}

/// Wait until a descriptor is readable, or the time is over, or a signal came.
pub fn wait_readable(fd: RawFd, patience: Duration) {
    let mut one = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let patience = libc::timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    // SAFETY: one live pollfd is passed with its count, and a time that is only read. Whoever waits looks for himself after.
    unsafe { libc::ppoll(&raw mut one, 1, &raw const patience, std::ptr::null()) };
}

/// Bound what the kernel keeps unsent for a TCP socket.
pub fn limit_unsent(fd: RawFd, bytes: i32) {
    // Without it more is buffered and a slow viewer is noticed later; nothing breaks.
    let _ = set_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &bytes);
}

/// What the kernel holds for a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// Bytes waiting to be read, with the kernel's overhead.
    pub backlog_bytes: u32,
    /// Datagrams dropped because the receive buffer was full.
    pub drops: u32,
}

/// Read backlog and drops of a socket (SO_MEMINFO).
pub fn socket_memory(fd: RawFd) -> SocketMemory {
    const SO_MEMINFO: libc::c_int = 55;
    const RMEM_ALLOC: usize = 0;
    const DROPS: usize = 8;
    let mut values = [0u32; 9];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the buffer is live and writable for `length` bytes.
    let rc = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, SO_MEMINFO, values.as_mut_ptr().cast(), &raw mut length)
    };
    if rc != 0 {
        return SocketMemory::default();
    }
    SocketMemory { backlog_bytes: values[RMEM_ALLOC], drops: values[DROPS] }
}

/// Wait until a socket takes bytes again; `BrokenPipe` when it does not in time.
pub fn wait_writable(fd: RawFd, patience: Duration) -> io::Result<()> {
    let mut one = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live pollfd is passed with its count.
    let ready = unsafe { libc::poll(&raw mut one, 1, patience.as_millis() as libc::c_int) };
    if ready == 0 {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // Errors and hang-ups are told by the send that follows.
    Ok(())
}

/// Have the allocator keep what is freed: up to [`KEPT_BYTES`] behind the last byte in use of each of its arenas.
///
/// A group of pictures is freed at once and as much is wanted again within two seconds. By default the pages went back to
/// the system each time and came again zeroed, one fault each. This is of the whole process.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt sets two numbers of the allocator, under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_IN_ONE as libc::c_int);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES as libc::c_int);
    }
}

/// CPU time the calling thread has used.
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that we own.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The wall clock in milliseconds since 1970.
pub fn wall_ms() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

/// Keep the calling thread on one core; used by measurements only.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain bits, for which all zeros is the empty set; the call only reads it.
    let rc = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core % libc::CPU_SETSIZE as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?;
    Ok(address.as_socket().map_or(0, |a| a.port()))
}

/// Bind a non-blocking UDP socket; returns it with its port.
pub fn bind_udp(address: SocketAddr) -> io::Result<(Socket, u16)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let port = port_of(&socket)?;
    Ok((socket, port))
}

/// Bind a non-blocking TCP socket, ready to listen or to connect; returns it with its port.
pub fn bind_tcp(address: SocketAddr) -> io::Result<(Socket, u16)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let port = port_of(&socket)?;
    Ok((socket, port))
}

/// Begin to connect; completion shows as writability. `Ok(true)` when it is complete already.
pub fn begin_connect(socket: &Socket, peer: SocketAddr) -> io::Result<bool> {
    match socket.connect(&peer.into()) {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Accept one waiting connection, non-blocking and without Nagle's delay; None when nobody waits.
pub fn accept(listener: &Socket) -> io::Result<Option<Socket>> {
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            Ok(Some(socket))
        }
        Err(e) if is_blocked(&e) => Ok(None),
        // The peer left between its connect and our accept; the next readiness tells of the next one.
        Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
        Err(e) => Err(e),
    }
}

/// The answer means "later", not "never".
pub fn is_blocked(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether a receiver that should never send has closed; what it sends all the same is thrown away.
pub fn has_closed(socket: &Socket) -> bool {
    let mut waste = [0u8; 4096];
    // Bounded, so that a peer that talks without end cannot hold us.
    for _ in 0..64 {
        match io::Read::read(&mut &*socket, &mut waste) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return !is_blocked(&e),
        }
    }
    false
}

/// Take over a connected TCP socket of another owner. Whatever it is, it is closed when this fails.
pub fn own_tcp_socket(fd: RawFd) -> io::Result<Socket> {
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: open, and given to us for good by the caller's contract.
    let socket = unsafe { Socket::from_raw_fd(fd) };
    if socket.r#type()? != Type::STREAM {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    socket.peer_addr()?;
    socket.set_nonblocking(true)?;
    // A Unix socket has no Nagle; tests use socket pairs.
    let _ = socket.set_tcp_nodelay(true);
    Ok(socket)
}

/// Take over a UDP socket of another owner that is connected to its one peer. It is closed when this fails.
pub fn own_udp_socket(fd: RawFd) -> io::Result<Socket> {
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: open, and given to us for good by the caller's contract.
    let socket = unsafe { Socket::from_raw_fd(fd) };
    if socket.r#type()? != Type::DGRAM {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    socket.peer_addr()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A short word for an event's detail.
pub fn reason(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::AddrInUse => "address in use",
        _ => "error",
    }
}

/// The descriptor of a socket, for the calls of this module.
pub fn fd(socket: &Socket) -> RawFd {
    socket.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn who_waits_for_a_descriptor_wakes_with_it_and_not_with_the_time() {
        let (begun, wake) = (Instant::now(), EventFd::new().unwrap());
        wait_readable(wake.fd(), Duration::from_millis(5));
        assert!(begun.elapsed() >= Duration::from_millis(5));
        wake.signal();
        wait_readable(wake.fd(), Duration::from_secs(600));
        assert!(begun.elapsed() < Duration::from_secs(500));
    }

    #[test]
    fn a_receive_buffer_that_is_smaller_than_wanted_is_told() {
        let (socket, _) = bind_udp((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert!(enlarge_receive_buffer(&socket, 4096));
        assert!(!enlarge_receive_buffer(&socket, i32::MAX as usize));
    }
}
