//! Cases without a raw loop beside them: delay inside the engine, idle cost, memory of a stream, one slow viewer.

use super::cases::{name_of, open_streams, pairs, start_engine, window_of, Figures, WARM_UP};
use super::generator::{self, Generator};
use super::BenchOptions;
use crate::engine::Result;
use crate::net::{self, Poll, SendBatch};
use crate::viewer::{Container, Dialogue};
use bytes::Bytes;
use socket2::Socket;
use std::io::Read;
use std::time::{Duration, Instant};

/// Bytes at the end of each access unit that say when it was sent: sixteen of four bits each, none of them zero.
const STAMP: usize = 16;
const NIBBLE_MARK: u8 = 0xA0;

fn stamp(nanoseconds: u64) -> [u8; STAMP] {
    std::array::from_fn(|i| NIBBLE_MARK | (nanoseconds >> (60 - 4 * i) & 0x0F) as u8)
}

fn read_stamp(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0u64, |sum, b| (b & 0xF0 == NIBBLE_MARK).then_some(sum << 4 | u64::from(b & 0x0F)))
}

/// Cuts FLV into tags and takes each video tag's stamp.
#[derive(Default)]
struct TagReader {
    data: Vec<u8>,
    has_header: bool,
}

impl TagReader {
    fn push(&mut self, bytes: &[u8], mut took: impl FnMut(u64)) {
        self.data.extend_from_slice(bytes);
        let mut at = if self.has_header { 0 } else { 13 };
        if self.data.len() < at {
            return;
        }
        self.has_header = true;
        while let Some(head) = self.data.get(at..at + 4) {
            let size = 15 + usize::from(head[1]) * 65_536 + usize::from(head[2]) * 256 + usize::from(head[3]);
            let Some(tag) = self.data.get(at..at + size) else { break };
            let is_picture = tag[0] == 9 && tag[12] == 1;
            if let Some(sent) =
                tag.get(size - 4 - STAMP..size - 4).filter(|_| is_picture).and_then(read_stamp)
            {
                took(sent);
            }
            at += size;
        }
        self.data.drain(..at);
    }
}

/// From the last packet of a frame handed to the kernel to its last byte read by a viewer's socket.
///
/// One thread sends and reads, so that nothing is added but two system calls; the engine has the other core.
pub fn delay(options: &BenchOptions) -> Result<Figures> {
    let options = BenchOptions { streams: options.streams.min(50), ..options.clone() };
    let engine = start_engine(&options)?;
    let ports = open_streams(&engine, options.streams)?;
    let (ours, theirs) = pairs(options.streams)?;
    for (index, socket) in ours.into_iter().enumerate() {
        engine.attach(&name_of(index), Container::Flv, socket, Bytes::new(), Dialogue::Silent)?;
    }
    let _ = net::pin_to_core(options.load_core);
    let mut delays = Probe::new(theirs, &ports, options.rate_mbps)?.run(WARM_UP, window_of(&options))?;
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).copied().unwrap_or(-1.0);
    Ok(vec![
        ("delay_p50_ms", at(0.5)),
        ("delay_p99_ms", at(0.99)),
        ("delay_max_ms", delays.last().copied().unwrap_or(-1.0)),
        ("frames", delays.len() as f64),
        ("seconds", options.seconds),
    ])
}

struct Probe {
    poll: Poll,
    viewers: Vec<(Socket, TagReader)>,
    cameras: Vec<generator::Camera>,
    frames: Vec<generator::Template>,
    epoch: Instant,
    delays: Vec<f64>,
    is_measuring: bool,
}

impl Probe {
    fn new(theirs: Vec<Socket>, ports: &[u16], rate_mbps: f64) -> Result<Self> {
        let poll = Poll::new()?;
        for (index, socket) in theirs.iter().enumerate() {
            socket.set_nonblocking(true)?;
            poll.watch_input(net::fd(socket), index as u64)?;
        }
        Ok(Self {
            poll,
            viewers: theirs.into_iter().map(|socket| (socket, TagReader::default())).collect(),
            cameras: generator::cameras(ports, true)?,
            frames: generator::templates(rate_mbps),
            epoch: Instant::now(),
            delays: Vec::new(),
            is_measuring: false,
        })
    }

    fn run(mut self, warm_up: Duration, window: Duration) -> Result<Vec<f64>> {
        let (mut send, mut groups) = (SendBatch::new(), Vec::new());
        let step = generator::FRAME_TIME / self.cameras.len() as u32;
        let mut packets = Vec::new();
        for turn in 0u32.. {
            let due = step * turn;
            if due >= warm_up + window {
                break;
            }
            self.is_measuring = due >= warm_up;
            self.read_until(due)?;
            let index = turn as usize % self.cameras.len();
            let number = u64::from(turn / self.cameras.len() as u32);
            let template = &self.frames[(number % self.frames.len() as u64) as usize];
            let sent = self.epoch.elapsed().as_nanos() as u64;
            template.write(&mut self.cameras[index], number, &mut packets);
            let end = packets.len();
            packets[end - STAMP..].copy_from_slice(&stamp(sent));
            template.send(&mut self.cameras[index], &packets, &mut groups, &mut send);
        }
        Ok(self.delays)
    }

    fn read_until(&mut self, due: Duration) -> Result<()> {
        let mut ready = Vec::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let left = due.saturating_sub(self.epoch.elapsed());
            self.poll.wait(Some(left), &mut ready)?;
            let now = self.epoch.elapsed().as_nanos() as u64;
            let Self { viewers, delays, is_measuring, .. } = self;
            for one in ready.drain(..) {
                let (socket, reader) = &mut viewers[one.token as usize];
                while let Ok(count @ 1..) = (&*socket).read(&mut buffer) {
                    reader.push(&buffer[..count], |sent| {
                        if *is_measuring {
                            delays.push(now.saturating_sub(sent) as f64 / 1e6);
                        }
                    });
                }
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}

/// CPU of an engine whose streams are open and silent.
pub fn idle(options: &BenchOptions) -> Result<Figures> {
    let engine = start_engine(options)?;
    open_streams(&engine, options.streams)?;
    std::thread::sleep(Duration::from_millis(200));
    let before = engine.cpu()?;
    std::thread::sleep(window_of(options));
    let cpu = engine.cpu()?.saturating_sub(before);
    Ok(vec![
        ("cpu_s", cpu.as_secs_f64()),
        ("core_share", cpu.as_secs_f64() / options.seconds),
        ("seconds", options.seconds),
    ])
}

/// Anonymous memory that a stream with its cached group adds.
pub fn memory(options: &BenchOptions) -> Result<Figures> {
    let engine = start_engine(options)?;
    let before = resident_bytes()?;
    let ports = open_streams(&engine, options.streams)?;
    let load = Generator::start(options, &ports)?;
    // Two groups more than it takes to fill the caches.
    std::thread::sleep(WARM_UP * 2 + window_of(options));
    let after = resident_bytes()?;
    drop(load);
    let mut gop_bytes = 0;
    for index in 0..options.streams {
        gop_bytes += engine.close_stream(&name_of(index))?.gop_bytes;
    }
    let streams = options.streams as f64;
    Ok(vec![
        ("bytes_per_stream", (after - before) / streams),
        ("gop_bytes_per_stream", gop_bytes as f64 / streams),
        ("streams", streams),
    ])
}

fn resident_bytes() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse::<f64>().ok());
    Ok(kibibytes.unwrap_or(0.0) * 1024.0)
}

/// Viewers that read, beside one that never does: frames left out for them, and how late they get what they get.
pub fn slow_viewer(options: &BenchOptions) -> Result<Figures> {
    let engine = start_engine(options)?;
    let ports = open_streams(&engine, 1)?;
    let (mut ours, mut theirs) = pairs(options.viewers)?;
    let slow_end = theirs.pop();
    let slow_socket = ours.pop();
    let mut viewers = Vec::new();
    for socket in ours {
        viewers.push(engine.attach(&name_of(0), Container::Flv, socket, Bytes::new(), Dialogue::Silent)?);
    }
    let slow = match slow_socket {
        Some(socket) => {
            Some(engine.attach(&name_of(0), Container::Flv, socket, Bytes::new(), Dialogue::Silent)?)
        }
        None => None,
    };
    let _ = net::pin_to_core(options.load_core);
    let mut delays = Probe::new(theirs, &ports, options.rate_mbps)?.run(WARM_UP, window_of(options))?;
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).copied().unwrap_or(-1.0);
    let mut skipped = 0;
    for viewer in viewers {
        skipped += engine.viewer_stats(viewer).map_or(0, |stats| stats.skipped);
    }
    let slow_skipped =
        slow.and_then(|viewer| engine.viewer_stats(viewer).ok()).map_or(-1.0, |s| s.skipped as f64);
    drop(slow_end);
    Ok(vec![
        ("delay_p50_ms", at(0.5)),
        ("delay_p99_ms", at(0.99)),
        ("frames", delays.len() as f64),
        ("skipped", skipped as f64),
        ("slow_skipped", slow_skipped),
        ("seconds", options.seconds),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_never_looks_like_a_start_code() {
        for time in [0, 1, 0x0123_4567_89AB_CDEF, u64::MAX] {
            let bytes = stamp(time);
            assert_eq!(read_stamp(&bytes), Some(time));
            assert!(!bytes.contains(&0) && !bytes.contains(&1));
        }
        assert_eq!(read_stamp(&[0; STAMP]), None);
    }

    #[test]
    fn the_engine_hands_on_every_frame_of_a_short_run() {
        let options = BenchOptions { streams: 2, viewers: 2, seconds: 0.4, ..BenchOptions::default() };
        let figures: std::collections::HashMap<_, _> = delay(&options).unwrap().into_iter().collect();
        assert!(figures["frames"] >= 16.0, "{figures:?}");
        assert!((0.0..1000.0).contains(&figures["delay_p50_ms"]), "{figures:?}");
    }
}
