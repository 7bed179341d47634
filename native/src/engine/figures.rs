//! What a stream and its viewers tell of themselves.

use super::quality::Figures;
use super::source::Transport;
use super::stream::Stream;
use crate::adts::{self, AacConfig};
use crate::frame::Codec;
use crate::nal::records::ParameterSets;
use crate::viewer::datagrams::Reported;

/// A stream's figures at one moment. Times are engine milliseconds, -1 until they happened.
#[derive(Clone, Debug)]
pub struct StreamStats {
    pub stream: String,
    pub transport: Transport,
    pub ssrc: u32,
    pub video_codec: &'static str,
    pub audio_codec: &'static str,
    /// 0 while it is not known.
    pub audio_rate_hz: u32,
    pub width: u32,
    pub height: u32,
    pub packets: u64,
    pub bytes: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicates: u64,
    pub malformed: u64,
    pub foreign_ssrc: u64,
    pub frames: u64,
    pub key_frames: u64,
    pub viewers: usize,
    pub relays: usize,
    pub opened_ms: f64,
    pub first_packet_ms: f64,
    pub first_key_frame_ms: f64,
    pub last_packet_ms: f64,
    /// Rates of the last seconds.
    pub quality: Figures,
    pub gop_bytes: usize,
    /// Datagrams the kernel dropped because we were late, and bytes that wait in its queue.
    pub kernel_drops: u32,
    pub backlog_bytes: u32,
}

/// What a client must know of a stream before it plays it by RTP: parameter sets and the configuration of AAC.
#[derive(Clone, Debug, Default)]
pub struct Description {
    pub video_codec: &'static str,
    /// VPS, SPS and PPS, as many as there are.
    pub parameter_sets: Vec<Vec<u8>>,
    pub audio_codec: &'static str,
    pub aac: Option<AacConfig>,
}

/// A viewer's figures at one moment.
#[derive(Clone, Debug)]
pub struct ViewerStats {
    pub id: u64,
    pub stream: String,
    pub container: &'static str,
    pub bytes: u64,
    pub frames: u64,
    pub skipped: u64,
    pub queued_bytes: usize,
    /// What it told of its reception, when it does.
    pub reported: Option<Reported>,
}

impl Stream {
    pub fn stats(&self, now_ms: f64) -> StreamStats {
        let counters = self.pipeline.counters();
        let order = self.pipeline.reorder_stats();
        let memory = self.source.memory();
        StreamStats {
            stream: self.name.to_string(),
            transport: self.source.transport(),
            ssrc: self.pipeline.ssrc().unwrap_or(0),
            video_codec: counters.video.map_or("", |c| c.name()),
            audio_codec: counters.audio.map_or("", |c| c.name()),
            audio_rate_hz: counters.audio_rate_hz,
            width: counters.width,
            height: counters.height,
            packets: counters.packets,
            bytes: counters.bytes,
            lost: order.lost,
            reordered: order.reordered,
            duplicates: order.duplicates,
            malformed: counters.malformed,
            foreign_ssrc: counters.foreign_ssrc,
            frames: counters.frames,
            key_frames: counters.key_frames,
            viewers: self.outlets.viewers().count() + self.outlets.peers.len(),
            relays: self.outlets.relays.len(),
            opened_ms: self.opened_ms,
            first_packet_ms: counters.first_packet_ms,
            first_key_frame_ms: counters.first_key_frame_ms,
            last_packet_ms: counters.last_packet_ms,
            quality: self.pipeline.figures(now_ms),
            gop_bytes: self.pipeline.gop().bytes(),
            kernel_drops: memory.drops,
            backlog_bytes: memory.backlog_bytes,
        }
    }

    /// What the cached group says of the stream.
    pub fn describe(&self) -> Description {
        let counters = self.pipeline.counters();
        let (mut sets, mut aac) = (ParameterSets::default(), None);
        for frame in self.pipeline.gop().frames() {
            if frame.config {
                sets.update(frame.codec, &frame.data);
            }
            if frame.codec == Codec::Aac && aac.is_none() {
                aac = adts::frames(&frame.data).next().map(|(config, _)| config);
            }
        }
        Description {
            video_codec: counters.video.map_or("", |c| c.name()),
            parameter_sets: sets.all().map(<[u8]>::to_vec).collect(),
            audio_codec: counters.audio.map_or("", |c| c.name()),
            aac,
        }
    }

    /// Of a viewer or a browser.
    pub(super) fn viewer_stats(&self, id: u64) -> Option<ViewerStats> {
        if let Some(stats) = self.outlets.peers.stats(id, &self.name) {
            return Some(stats);
        }
        let viewer = self.viewers().find(|viewer| viewer.id == id)?;
        Some(ViewerStats {
            id,
            stream: self.name.to_string(),
            container: viewer.container.name(),
            bytes: viewer.sent_bytes,
            frames: viewer.frames,
            skipped: viewer.skipped,
            queued_bytes: viewer.queued_bytes,
            reported: viewer.reported(),
        })
    }
}
