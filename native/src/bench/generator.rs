//! Load: many cameras on one thread, each 25 frames a second of PS over RTP, out of step with each other.

use super::BenchOptions;
use crate::frame::Codec;
use crate::net::{self, Group, SendBatch};
use crate::packetizer::Packetizer;
use crate::ps_mux::PsMuxer;
use crate::rtp::HEADER_SIZE;
use socket2::Socket;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FRAMES_PER_S: u64 = 25;
pub(super) const FRAME_TIME: Duration = Duration::from_millis(1000 / FRAMES_PER_S);
const GOP_FRAMES: u64 = 50;
const MTU: usize = 1400;
const TICKS_PER_FRAME: u64 = 90_000 / FRAMES_PER_S;

/// SSRC of the first camera; the others follow.
pub const FIRST_SSRC: u32 = 100_000_000;

/// A key frame is this many times the size of another.
const KEY_WEIGHT: f64 = 8.0;

/// One access unit: Annex B with parameter sets on key frames and bytes that never look like a start code.
fn access_unit(size: usize, is_key: bool, seed: u64) -> Vec<u8> {
    // Baseline 640 x 480, so that parsers of parameter sets have something true to read.
    const SPS: [u8; 13] = [0, 0, 0, 1, 0x67, 0x42, 0xC0, 0x1E, 0xDA, 0x02, 0x80, 0xF6, 0x40];
    const PPS: [u8; 8] = [0, 0, 0, 1, 0x68, 0xCE, 0x3C, 0x80];
    let mut unit = Vec::with_capacity(size + 64);
    if is_key {
        unit.extend(SPS);
        unit.extend(PPS);
    }
    unit.extend([0, 0, 0, 1, if is_key { 0x65 } else { 0x41 }, 0x88]);
    let mut state = seed | 1;
    while unit.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        unit.extend(state.to_le_bytes().map(|b| b | 1));
    }
    unit
}

/// One frame as RTP packets; identity and time are written for each camera.
pub(super) struct Template {
    rtp: Vec<u8>,
    size: usize,
}

impl Template {
    /// The packets of frame `number` of a camera.
    pub(super) fn write(&self, camera: &mut Camera, number: u64, packets: &mut Vec<u8>) {
        packets.clear();
        packets.extend_from_slice(&self.rtp);
        let timestamp = (number * TICKS_PER_FRAME) as u32;
        for packet in packets.chunks_mut(self.size) {
            packet[2..4].copy_from_slice(&camera.sequence.to_be_bytes());
            packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
            packet[8..12].copy_from_slice(&camera.ssrc.to_be_bytes());
            camera.sequence = camera.sequence.wrapping_add(1);
        }
    }

    /// Hand them to the kernel at once.
    pub(super) fn send(
        &self,
        camera: &mut Camera,
        packets: &[u8],
        groups: &mut Vec<Group>,
        send: &mut SendBatch,
    ) {
        groups.clear();
        packets.chunks(self.size).for_each(|p| Group::append(groups, p.len()));
        send.send(net::fd(&camera.socket), packets, groups, &mut camera.has_gso);
    }
}

/// One group of pictures, frame by frame.
struct Material {
    frames: Vec<Template>,
}

impl Material {
    fn new(rate_mbps: f64) -> Self {
        let total = rate_mbps * 1e6 / 8.0 * GOP_FRAMES as f64 / FRAMES_PER_S as f64;
        let unit = total / (GOP_FRAMES as f64 - 1.0 + KEY_WEIGHT);
        let mut muxer = PsMuxer::new(Some(Codec::H264), None);
        let mut packetizer = Packetizer::new(96, 0, 0, MTU);
        let frames = (0..GOP_FRAMES)
            .map(|n| {
                let is_key = n == 0;
                let size = if is_key { unit * KEY_WEIGHT } else { unit };
                let (mut ps, mut rtp) = (Vec::new(), Vec::new());
                muxer.write_video(
                    &access_unit(size as usize, is_key, n + 1),
                    n * TICKS_PER_FRAME,
                    is_key,
                    &mut ps,
                );
                let packets = packetizer.packetize(&ps, 0, &mut rtp);
                Template { rtp, size: packets.size.max(HEADER_SIZE) }
            })
            .collect();
        Self { frames }
    }
}

pub(super) struct Camera {
    socket: Socket,
    ssrc: u32,
    sequence: u16,
    has_gso: bool,
}

/// One camera to each port.
pub(super) fn cameras(ports: &[u16], has_gso: bool) -> io::Result<Vec<Camera>> {
    let open = |(&port, ssrc): (&u16, u32)| {
        let (socket, _) = net::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        Ok(Camera { socket, ssrc, sequence: 0, has_gso })
    };
    ports.iter().zip(FIRST_SSRC..).map(open).collect()
}

/// A running generator.
pub struct Generator {
    stop: Arc<AtomicBool>,
    sent_bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Generator {
    /// Send one camera to each port until stopped.
    pub fn start(options: &BenchOptions, ports: &[u16]) -> io::Result<Self> {
        let cameras = cameras(ports, options.gso)?;
        let stop = Arc::new(AtomicBool::new(false));
        let sent_bytes = Arc::new(AtomicU64::new(0));
        let (material, core, has_gso) = (Material::new(options.rate_mbps), options.load_core, options.gso);
        let (stop_seen, counter) = (stop.clone(), sent_bytes.clone());
        let thread = std::thread::Builder::new().name("bench-load".into()).spawn(move || {
            // Unpinned the figures are noisier and still true.
            let _ = net::pin_to_core(core);
            let mut load = Load { material, cameras, send: SendBatch::new(), packets: Vec::new() };
            if has_gso {
                load.run_in_frames(&stop_seen, &counter);
            } else {
                load.run_in_packets(&stop_seen, &counter);
            }
        })?;
        Ok(Self { stop, sent_bytes, thread: Some(thread) })
    }

    /// RTP bytes sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the load shows as missing traffic.
            let _ = thread.join();
        }
    }
}

struct Load {
    material: Material,
    cameras: Vec<Camera>,
    send: SendBatch,
    packets: Vec<u8>,
}

impl Load {
    /// Write frame `n` of a camera into `packets`; returns the packet size.
    fn prepare(&mut self, camera: usize, n: u64) -> usize {
        let template = &self.material.frames[(n % GOP_FRAMES) as usize];
        template.write(&mut self.cameras[camera], n, &mut self.packets);
        template.size
    }

    /// Each frame leaves at once; cameras are spread evenly over the frame's time.
    fn run_in_frames(&mut self, stop: &AtomicBool, sent: &AtomicU64) {
        let count = self.cameras.len() as u64;
        let step = Duration::from_secs(1) / FRAMES_PER_S as u32 / count as u32;
        let begun = Instant::now();
        let mut groups = Vec::new();
        for turn in 0u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let due = step * (turn as u32);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let (index, n) = ((turn % count) as usize, turn / count);
            // Groups of pictures are out of step too, as those of real cameras are.
            let number = n + index as u64 * 7;
            self.prepare(index, number);
            let template = &self.material.frames[(number % GOP_FRAMES) as usize];
            template.send(&mut self.cameras[index], &self.packets, &mut groups, &mut self.send);
            sent.fetch_add(self.packets.len() as u64, Ordering::Relaxed);
        }
    }

    /// Packets one by one, each camera's frame spread over most of its time, as behind a network. The thread spins,
    /// because a sleep is longer than the time between two packets.
    fn run_in_packets(&mut self, stop: &AtomicBool, sent: &AtomicU64) {
        let count = self.cameras.len();
        let mut frames: Vec<Spread> =
            (0..count).map(|i| Spread::new(FRAME_TIME * i as u32 / count as u32)).collect();
        let begun = Instant::now();
        let mut queue: BinaryHeap<Reverse<(Duration, usize)>> =
            frames.iter().enumerate().map(|(i, f)| Reverse((f.begins, i))).collect();
        while let Some(Reverse((due, index))) = queue.pop() {
            while begun.elapsed() < due {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                std::hint::spin_loop();
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if frames[index].is_done() {
                let size = self.prepare(index, frames[index].number + index as u64 * 7);
                frames[index].load(&mut self.packets, size);
            }
            let packet = frames[index].next_packet();
            sent.fetch_add(packet.len() as u64, Ordering::Relaxed);
            // One datagram a call: nothing here gathers for the receiver.
            let _ = self.cameras[index].socket.send(packet);
            queue.push(Reverse((frames[index].due(), index)));
        }
    }
}

/// One camera's frame on its way, packet by packet.
struct Spread {
    begins: Duration,
    number: u64,
    bytes: Vec<u8>,
    size: usize,
    at: usize,
}

impl Spread {
    fn new(begins: Duration) -> Self {
        Self { begins, number: 0, bytes: Vec::new(), size: 1, at: 0 }
    }

    fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn load(&mut self, bytes: &mut Vec<u8>, size: usize) {
        std::mem::swap(&mut self.bytes, bytes);
        self.size = size;
        self.at = 0;
    }

    fn next_packet(&mut self) -> &[u8] {
        let start = self.at;
        self.at = (start + self.size).min(self.bytes.len());
        if self.is_done() {
            self.number += 1;
            self.begins += FRAME_TIME;
        }
        &self.bytes[start..self.at]
    }

    /// When the next packet leaves: a frame takes four fifths of its time.
    fn due(&self) -> Duration {
        if self.is_done() {
            return self.begins;
        }
        self.begins + FRAME_TIME.mul_f64(0.8 * self.at as f64 / self.bytes.len() as f64)
    }
}

/// The bytes of each frame of a group, for who writes them without any stream.
pub fn frame_bytes(rate_mbps: f64) -> Vec<Vec<u8>> {
    templates(rate_mbps).into_iter().map(|template| template.rtp).collect()
}

/// The frames of a group.
pub(super) fn templates(rate_mbps: f64) -> Vec<Template> {
    Material::new(rate_mbps).frames
}
