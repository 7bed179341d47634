//! The cases: the same traffic once for a bare loop and once for the engine.

use super::bare::{self, Drain, Window};
use super::generator::{self, Generator, FIRST_SSRC};
use super::{latency, BenchOptions, Case};
use crate::engine::{Engine, EngineError, Options, RelayTarget, Result, Transport};

use crate::viewer::{Container, Dialogue};
use bytes::Bytes;
use socket2::Socket;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longer than a group of pictures, so that caches are full and memory is settled when the window opens.
pub(super) const WARM_UP: Duration = Duration::from_millis(2500);

pub(super) type Figures = Vec<(&'static str, f64)>;

/// Run one round of one case.
pub fn run(case: Case, options: &BenchOptions) -> Result<Figures> {
    match case {
        Case::RawRecv => raw_receive(options, false),
        Case::RawRelay => raw_receive(options, true),
        Case::Ingest => engine_receive(options, false),
        Case::Relay => engine_receive(options, true),
        Case::RawFanout => raw_fanout(options),
        Case::Fanout => engine_fanout(options),
        Case::Delay => latency::delay(options),
        Case::Idle => latency::idle(options),
        Case::Memory => latency::memory(options),
        Case::SlowViewer => latency::slow_viewer(options),
    }
}

pub(super) fn window_of(options: &BenchOptions) -> Duration {
    Duration::from_secs_f64(options.seconds)
}

fn figures(options: &BenchOptions, cpu: Duration, bytes: u64) -> Figures {
    let gbit = bytes as f64 * 8.0 / 1e9;
    vec![
        ("cpu_s", cpu.as_secs_f64()),
        ("gbit", gbit),
        ("cpu_s_per_gbit", cpu.as_secs_f64() / gbit.max(1e-9)),
        ("seconds", options.seconds),
    ]
}

fn with_window(mut figures: Figures, window: &Window) -> Figures {
    figures.extend([
        ("packets", window.packets as f64),
        ("kernel_drops", f64::from(window.drops)),
        ("backlog_start_bytes", f64::from(window.backlog_start_bytes)),
        ("backlog_end_bytes", f64::from(window.backlog_end_bytes)),
    ]);
    figures
}

/// Sinks for relayed packets and sockets that send to them.
fn sinks(options: &BenchOptions, relays: bool) -> Result<(Option<Drain>, Vec<u16>)> {
    if !relays {
        return Ok((None, Vec::new()));
    }
    let (sockets, ports) = bare::udp_sockets(options.streams)?;
    Ok((Some(Drain::start(sockets, options.load_core, false)?), ports))
}

fn raw_receive(options: &BenchOptions, relays: bool) -> Result<Figures> {
    let (sink, sink_ports) = sinks(options, relays)?;
    let (sockets, ports) = bare::udp_sockets(options.streams)?;
    let onward = bare::connected_to(&sink_ports)?;
    let load = Generator::start(options, &ports)?;
    let window = bare::receive(sockets, onward, &load, options.core, WARM_UP, window_of(options))?;
    let mut all = with_window(figures(options, window.cpu, window.sent_bytes), &window);
    all.extend(sink.map(|s| ("relayed_bytes", s.bytes() as f64)));
    Ok(all)
}

pub(super) fn start_engine(options: &BenchOptions) -> Result<Engine> {
    let tick = Duration::from_millis(options.tick_ms);
    let plain = Options::default();
    let unwatched_tick = if options.watched { tick } else { plain.unwatched_tick };
    let engine = Engine::start(Options { tick, unwatched_tick, ..plain })?;
    // Unpinned the figures are noisier and still true.
    let _ = engine.pin(options.core);
    Ok(engine)
}

pub(super) fn name_of(index: usize) -> String {
    format!("bench-{index}")
}

pub(super) fn open_streams(engine: &Engine, count: usize) -> Result<Vec<u16>> {
    (0..count)
        .zip(FIRST_SSRC..)
        .map(|(i, ssrc)| {
            engine.open_ingest(&name_of(i), Transport::Udp, (Ipv4Addr::LOCALHOST, 0).into(), Some(ssrc))
        })
        .collect()
}

fn engine_receive(options: &BenchOptions, relays: bool) -> Result<Figures> {
    let (sink, sink_ports) = sinks(options, relays)?;
    let engine = start_engine(options)?;
    let ports = open_streams(&engine, options.streams)?;
    for (index, &port) in sink_ports.iter().enumerate() {
        let target = RelayTarget {
            transport: Transport::Udp,
            peer: Some((Ipv4Addr::LOCALHOST, port).into()),
            local: (Ipv4Addr::LOCALHOST, 0).into(),
            ssrc: 200_000_000 + index as u32,
            payload_type: 96,
        };
        engine.add_relay(&name_of(index), target)?;
    }
    let load = Generator::start(options, &ports)?;
    std::thread::sleep(WARM_UP);
    let before = engine.memory()?;
    let (cpu, sent) = (engine.cpu()?, load.sent_bytes());
    std::thread::sleep(window_of(options));
    let (cpu, sent) = (engine.cpu()?.saturating_sub(cpu), load.sent_bytes() - sent);
    let after = engine.memory()?;
    drop(load);
    let mut window = Window {
        cpu,
        sent_bytes: sent,
        packets: 0,
        backlog_start_bytes: before.backlog_bytes,
        backlog_end_bytes: after.backlog_bytes,
        drops: 0,
    };
    let (mut frames, mut lost) = (0, 0);
    for index in 0..options.streams {
        let stats = engine.close_stream(&name_of(index))?;
        window.packets += stats.packets;
        window.drops += stats.kernel_drops;
        frames += stats.frames;
        lost += stats.lost;
    }
    let mut all = with_window(figures(options, cpu, sent), &window);
    all.extend([("frames", frames as f64), ("lost", lost as f64)]);
    all.extend(sink.map(|s| ("relayed_bytes", s.bytes() as f64)));
    Ok(all)
}

/// Connected pairs over loopback TCP: ours, theirs.
pub(super) fn pairs(count: usize) -> Result<(Vec<Socket>, Vec<Socket>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address: SocketAddr = listener.local_addr()?;
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..count {
        theirs.push(Socket::from(TcpStream::connect(address)?));
        let (accepted, _) = listener.accept()?;
        accepted.set_nodelay(true)?;
        accepted.set_nonblocking(true)?;
        ours.push(Socket::from(accepted));
    }
    Ok((ours, theirs))
}

fn raw_fanout(options: &BenchOptions) -> Result<Figures> {
    let (ours, theirs) = pairs(options.viewers)?;
    let drain = Drain::start(theirs, options.load_core, true)?;
    let frames = generator::frame_bytes(options.rate_mbps);
    let counter = drain.counter();
    let (first, last) = (AtomicU64::new(0), AtomicU64::new(0));
    let at_edges = |is_start: bool| {
        let place = if is_start { &first } else { &last };
        place.store(counter.load(Ordering::Relaxed), Ordering::Relaxed);
    };
    let cpu = bare::fan_out(ours, frames, options.core, WARM_UP, window_of(options), at_edges)?;
    Ok(figures(options, cpu, last.into_inner() - first.into_inner()))
}

fn engine_fanout(options: &BenchOptions) -> Result<Figures> {
    let options = BenchOptions { streams: 1, ..options.clone() };
    let engine = start_engine(&options)?;
    let ports = open_streams(&engine, 1)?;
    let load = Generator::start(&options, &ports)?;
    let (ours, theirs) = pairs(options.viewers)?;
    let drain = Drain::start(theirs, options.load_core, true)?;
    let mut viewers = Vec::new();
    for socket in ours {
        viewers.push(engine.attach(&name_of(0), Container::Flv, socket, Bytes::new(), Dialogue::Silent)?);
    }
    // The engine waits for a key frame, at most two seconds away.
    for _ in 0..300 {
        if engine.stats(&name_of(0))?.key_frames > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(WARM_UP);
    let (cpu, bytes) = (engine.cpu()?, drain.bytes());
    std::thread::sleep(window_of(&options));
    let (cpu, bytes) = (engine.cpu()?.saturating_sub(cpu), drain.bytes() - bytes);
    let mut skipped = 0;
    for &viewer in &viewers {
        skipped += match engine.viewer_stats(viewer) {
            Ok(stats) => stats.skipped,
            Err(EngineError::Unknown) => 0,
            Err(e) => return Err(e),
        };
    }
    drop(load);
    let stats = engine.close_stream(&name_of(0))?;
    let mut all = figures(&options, cpu, bytes);
    all.extend([
        ("packets", stats.packets as f64),
        ("kernel_drops", f64::from(stats.kernel_drops)),
        ("frames", stats.frames as f64),
        ("lost", stats.lost as f64),
        ("skipped", skipped as f64),
    ]);
    Ok(all)
}
