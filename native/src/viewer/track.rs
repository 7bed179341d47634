//! A stream in one container: what is made once for all of its viewers, and what a new one starts from.

use super::Viewer;
use crate::flv::FlvMuxer;
use crate::fmp4::parts::PartMuxer;
use crate::fmp4::Fmp4Muxer;
use crate::frame::Frame;
use crate::gop::{GopCache, FRAMES_MAX};
use crate::ps_mux::PsMuxer;
use crate::rtp_tracks::{RtpMuxer, Tracks};
use bytes::Bytes;
use std::collections::VecDeque;

/// The header of an fMP4 names its tracks for good; so it waits this long after the first picture for sound to come.
const SOUND_WAIT_TICKS: u64 = 27_000;

/// What the viewer's bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Flv,
    Fmp4,
    /// The sound alone.
    FlvAudio,
    Fmp4Audio,
    Ps,
    /// Parts of HLS segments, for whoever makes playlists of them.
    Parts,
    /// RTP of elementary streams, interleaved, for a client of RTSP.
    Rtp(Tracks),
}

impl Container {
    pub const ALL: [Container; 9] = [
        Container::Flv,
        Container::Fmp4,
        Container::FlvAudio,
        Container::Fmp4Audio,
        Container::Ps,
        Container::Parts,
        Container::Rtp(Tracks::All),
        Container::Rtp(Tracks::Video),
        Container::Rtp(Tracks::Audio),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Flv => "flv",
            Self::Fmp4 => "fmp4",
            Self::FlvAudio => "flv-audio",
            Self::Fmp4Audio => "fmp4-audio",
            Self::Ps => "ps",
            Self::Parts => "parts",
            Self::Rtp(Tracks::All) => "rtp",
            Self::Rtp(Tracks::Video) => "rtp-video",
            Self::Rtp(Tracks::Audio) => "rtp-audio",
        }
    }

    /// Whether pictures are left out: a viewer can start with any frame then.
    fn is_sound_alone(self) -> bool {
        matches!(self, Self::FlvAudio | Self::Fmp4Audio | Self::Rtp(Tracks::Audio))
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

enum Muxer {
    Flv(FlvMuxer),
    Fmp4(Fmp4Muxer),
    Ps(PsMuxer),
    Parts(PartMuxer),
    Rtp(RtpMuxer),
}

impl Muxer {
    fn new(container: Container, gop: &GopCache, wall_ms: u64) -> Self {
        match container {
            Container::Flv | Container::FlvAudio => Self::Flv(FlvMuxer::new()),
            Container::Fmp4 | Container::Fmp4Audio => Self::Fmp4(Fmp4Muxer::new()),
            Container::Rtp(tracks) => Self::Rtp(RtpMuxer::new(tracks, wall_ms)),
            Container::Parts => Self::Parts(PartMuxer::new()),
            Container::Ps => {
                // The map stands before the first frame and is to name both tracks.
                let codec = |is_video| gop.frames().map(|f| f.codec).find(|c| c.is_video() == is_video);
                Self::Ps(PsMuxer::new(codec(true), codec(false)))
            }
        }
    }

    /// `key`: a viewer can start with this frame.
    fn wrap(&mut self, frame: &Frame, key: bool) -> Option<Tag> {
        let bytes = match self {
            Self::Flv(muxer) => muxer.tag(frame)?,
            Self::Fmp4(muxer) => muxer.fragment(frame)?,
            Self::Ps(muxer) => {
                let mut out = Vec::with_capacity(frame.data.len() + 192);
                muxer.write(frame, &mut out);
                Bytes::from(out)
            }
            Self::Rtp(muxer) => Bytes::from(muxer.packets(frame)?),
            // It is the part before this frame that goes out.
            Self::Parts(muxer) => return muxer.push(frame, key).map(|p| Tag { bytes: p.bytes, key: p.key }),
        };
        Some(Tag { bytes, key })
    }

    /// What stands before the first frame; None while it cannot be made. It fixes the tracks of an fMP4.
    fn header(&mut self) -> Option<Bytes> {
        match self {
            Self::Flv(muxer) => Some(muxer.header()),
            Self::Fmp4(muxer) => muxer.init(),
            Self::Ps(_) | Self::Rtp(_) => Some(Bytes::new()),
            Self::Parts(muxer) => muxer.init(),
        }
    }
}

/// One wrapped frame.
#[derive(Clone)]
pub(super) struct Tag {
    pub bytes: Bytes,
    /// A viewer can start here.
    pub key: bool,
}

/// A stream in one container, with what a new viewer starts from. Lives while somebody watches.
pub struct Track {
    muxer: Muxer,
    is_sound_alone: bool,
    /// The tags since the last key frame; bounded like the GOP cache beside it.
    recent: VecDeque<Tag>,
    recent_bytes: usize,
    cap_bytes: usize,
    /// The header is held back until it is known which tracks there are.
    awaits_sound: bool,
    first_picture: Option<u64>,
}

impl Track {
    /// Begin with the frames of the cache, so that the first viewer has a picture at once. `wall_ms` is the wall clock
    /// now, in milliseconds since 1970.
    pub fn new(container: Container, gop: &GopCache, cap_bytes: usize, wall_ms: u64) -> Self {
        let mut track = Self {
            muxer: Muxer::new(container, gop, wall_ms),
            is_sound_alone: container.is_sound_alone(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            cap_bytes,
            awaits_sound: container == Container::Fmp4,
            first_picture: None,
        };
        for frame in gop.frames() {
            track.push(frame, &mut [], 0.0);
        }
        track
    }

    /// Wrap one frame and queue it for all viewers of this container.
    pub fn push(&mut self, frame: &Frame, viewers: &mut [Viewer], now_ms: f64) {
        // RTP leaves them out by itself, since its reports go by the key frames.
        if self.is_sound_alone && frame.codec.is_video() && !matches!(self.muxer, Muxer::Rtp(_)) {
            return;
        }
        let Some(tag) = self.muxer.wrap(frame, frame.key || self.is_sound_alone) else { return };
        if tag.key {
            self.recent.clear();
            self.recent_bytes = 0;
        }
        if self.awaits_sound {
            self.awaits_sound = self.is_early(frame);
            self.keep(tag);
            if !self.awaits_sound {
                viewers.iter_mut().for_each(|viewer| self.greet(viewer, now_ms));
            }
            return;
        }
        let is_start = tag.key && viewers.iter().any(|v| !v.has_header);
        let header = if is_start { self.muxer.header() } else { None };
        for viewer in viewers.iter_mut() {
            viewer.offer(&tag, header.as_ref(), now_ms);
        }
        self.keep(tag);
    }

    /// The stream ends: give what is held back.
    pub fn finish(&mut self, viewers: &mut [Viewer], now_ms: f64) {
        let Muxer::Parts(muxer) = &mut self.muxer else { return };
        let Some(part) = muxer.finish() else { return };
        let (header, tag) = (muxer.init(), Tag { bytes: part.bytes, key: part.key });
        for viewer in viewers.iter_mut() {
            viewer.offer(&tag, header.as_ref(), now_ms);
        }
    }

    /// Whether sound may still come beside the first pictures.
    fn is_early(&mut self, frame: &Frame) -> bool {
        let first = *self.first_picture.get_or_insert(frame.pts);
        frame.codec.is_video() && frame.pts.saturating_sub(first) < SOUND_WAIT_TICKS
    }

    fn keep(&mut self, tag: Tag) {
        if !tag.key && self.recent.is_empty() {
            return;
        }
        self.recent_bytes += tag.bytes.len();
        self.recent.push_back(tag);
        if self.recent_bytes > self.cap_bytes || self.recent.len() > FRAMES_MAX {
            self.recent.clear();
            self.recent_bytes = 0;
        }
    }

    /// Queue what a new viewer starts from.
    pub(super) fn greet(&mut self, viewer: &mut Viewer, now_ms: f64) {
        if self.recent.is_empty() || self.awaits_sound {
            return;
        }
        let header = self.muxer.header();
        viewer.burst_bytes = self.recent_bytes + header.as_ref().map_or(0, Bytes::len);
        for tag in &self.recent {
            viewer.offer(tag, header.as_ref(), now_ms);
        }
    }
}
