//! The bare loops: the system calls the work cannot do without, woken for every arrival, and nothing else.

use super::generator::Generator;
use crate::net::{self, Group, Poll, RecvBatch, SendBatch};
use socket2::Socket;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Datagrams a receive call takes, each in a buffer that holds an Ethernet packet.
const RECEIVES: usize = 64;
const STRIDE: usize = 2048;

/// CPU and bytes of one measured window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    pub cpu: Duration,
    pub sent_bytes: u64,
    pub packets: u64,
    pub backlog_start_bytes: u32,
    pub backlog_end_bytes: u32,
    pub drops: u32,
}

/// UDP sockets on loopback with large buffers, and their ports.
pub fn udp_sockets(count: usize) -> io::Result<(Vec<Socket>, Vec<u16>)> {
    let bound: io::Result<Vec<(Socket, u16)>> =
        (0..count).map(|_| net::bind_udp((Ipv4Addr::LOCALHOST, 0).into())).collect();
    let (sockets, ports): (Vec<Socket>, Vec<u16>) = bound?.into_iter().unzip();
    for socket in &sockets {
        net::enlarge_receive_buffer(socket, net::UDP_RECEIVE_BYTES);
    }
    Ok((sockets, ports))
}

/// Sockets connected to the ports, one each.
pub fn connected_to(ports: &[u16]) -> io::Result<Vec<Socket>> {
    ports
        .iter()
        .map(|&port| {
            let (socket, _) = net::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
            socket.set_send_buffer_size(net::UDP_SEND_BYTES)?;
            socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
            Ok(socket)
        })
        .collect()
}

fn memory(sockets: &[Socket]) -> net::SocketMemory {
    sockets.iter().map(|s| net::socket_memory(net::fd(s))).fold(net::SocketMemory::default(), |a, b| {
        net::SocketMemory { backlog_bytes: a.backlog_bytes + b.backlog_bytes, drops: a.drops + b.drops }
    })
}

struct Loop {
    sockets: Vec<Socket>,
    onward: Vec<Socket>,
    poll: Poll,
    batch: RecvBatch,
    send: SendBatch,
    packets: u64,
}

impl Loop {
    fn run_until(&mut self, end: Instant) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut groups: Vec<Group> = Vec::with_capacity(RECEIVES);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll.wait(Some(left), &mut ready)?;
            for one in ready.drain(..) {
                let index = one.token as usize;
                let fd = net::fd(&self.sockets[index]);
                while let Ok((count, has_more)) = self.batch.receive(fd) {
                    self.packets += count as u64;
                    if let Some(onward) = self.onward.get(index) {
                        groups.clear();
                        groups.extend((0..count).map(|i| self.batch.group(i)));
                        self.send.send(net::fd(onward), self.batch.bytes(), &groups, &mut true);
                    }
                    if !has_more {
                        break;
                    }
                }
            }
        }
    }
}

/// Receive (and send on, one socket to one) during warm-up and window.
pub fn receive(
    sockets: Vec<Socket>,
    onward: Vec<Socket>,
    load: &Generator,
    core: usize,
    warm_up: Duration,
    window: Duration,
) -> io::Result<Window> {
    let poll = Poll::new()?;
    for (index, socket) in sockets.iter().enumerate() {
        poll.watch_input(net::fd(socket), index as u64)?;
    }
    std::thread::scope(|scope| {
        let measured = scope.spawn(move || {
            let _ = net::pin_to_core(core);
            let batch = RecvBatch::sized(RECEIVES, STRIDE);
            let mut bare = Loop { sockets, onward, poll, batch, send: SendBatch::new(), packets: 0 };
            bare.run_until(Instant::now() + warm_up)?;
            let (cpu, sent, packets) = (net::thread_cpu(), load.sent_bytes(), bare.packets);
            let before = memory(&bare.sockets);
            bare.run_until(Instant::now() + window)?;
            let cpu = net::thread_cpu() - cpu;
            let after = memory(&bare.sockets);
            Ok(Window {
                cpu,
                sent_bytes: load.sent_bytes() - sent,
                packets: bare.packets - packets,
                backlog_start_bytes: before.backlog_bytes,
                backlog_end_bytes: after.backlog_bytes,
                drops: after.drops,
            })
        });
        measured.join().unwrap_or_else(|_| Err(io::Error::other("the bare loop panicked")))
    })
}

/// Write each frame to every socket at its time; returns the CPU of the window.
pub fn fan_out(
    sockets: Vec<Socket>,
    frames: Vec<Vec<u8>>,
    core: usize,
    warm_up: Duration,
    window: Duration,
    at_edges: impl Fn(bool) + Send,
) -> io::Result<Duration> {
    std::thread::scope(|scope| {
        let measured = scope.spawn(move || {
            let _ = net::pin_to_core(core);
            let begun = Instant::now();
            let mut cpu = None;
            for n in 0u32.. {
                std::thread::sleep((Duration::from_millis(40) * n).saturating_sub(begun.elapsed()));
                if cpu.is_none() && begun.elapsed() >= warm_up {
                    at_edges(true);
                    cpu = Some(net::thread_cpu());
                }
                if begun.elapsed() >= warm_up + window {
                    break;
                }
                let frame = &frames[n as usize % frames.len()];
                for socket in &sockets {
                    // A full socket skips the frame, as the engine would.
                    let slices = [io::IoSlice::new(frame)];
                    let _ = socket.send_vectored_with_flags(&slices, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
                }
            }
            let used = net::thread_cpu() - cpu.unwrap_or_default();
            at_edges(false);
            used
        });
        measured.join().map_err(|_| io::Error::other("the bare loop panicked"))
    })
}

/// Readers on the other core that throw away what arrives.
pub struct Drain {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    pub fn start(sockets: Vec<Socket>, core: usize, is_tcp: bool) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let bytes = Arc::new(AtomicU64::new(0));
        let mut poll = Poll::new()?;
        for (index, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(true)?;
            poll.watch_input(net::fd(socket), index as u64)?;
        }
        let (stop_seen, counter) = (stop.clone(), bytes.clone());
        let thread = std::thread::Builder::new().name("bench-drain".into()).spawn(move || {
            let _ = net::pin_to_core(core);
            // MSG_TRUNC throws TCP bytes away without copying them; a datagram is cut to nothing the same way.
            let mut waste = vec![MaybeUninit::uninit(); if is_tcp { 4 << 20 } else { 1 }];
            let mut ready = Vec::new();
            while !stop_seen.load(Ordering::Relaxed) {
                if poll.wait(Some(Duration::from_millis(50)), &mut ready).is_err() {
                    return;
                }
                for one in ready.drain(..) {
                    let socket = &sockets[one.token as usize];
                    while let Ok(count) =
                        socket.recv_with_flags(&mut waste, libc::MSG_DONTWAIT | libc::MSG_TRUNC)
                    {
                        counter.fetch_add(count as u64, Ordering::Relaxed);
                        if count == 0 {
                            break;
                        }
                    }
                }
                // Gathering keeps the readers from taking the generator's core.
                std::thread::sleep(Duration::from_millis(5));
            }
        })?;
        Ok(Self { stop, bytes, thread: Some(thread) })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn counter(&self) -> Arc<AtomicU64> {
        self.bytes.clone()
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
