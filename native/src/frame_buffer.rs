//! A frame in the making. The frames of a track lie behind each other in blocks that they share.
//!
//! A frame with memory of its own costs the allocator's book-keeping at both ends, and a group of pictures is freed long
//! after its memory has left the processor's caches. A block is freed with the last frame that lies in it, so that whoever
//! keeps one small frame keeps a block.
//!
//! Nearly all that is received goes into the cache of a stream and is not read soon. So it is written past the processor's
//! caches, line by line and each line whole (a line written in two parts costs more than an ordinary one); the first lines,
//! which are looked into at once, are written as usual. On processors other than x86-64 all is written as usual.

use bytes::{Buf, Bytes, BytesMut};
use std::mem::MaybeUninit;

/// Some eight pictures of a usual camera.
const BLOCK_BYTES: usize = 128 << 10;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Parameter sets and the head of the first slice, in whole lines.
const HEAD_BYTES: usize = 4 * LINE;

/// One frame after another.
#[derive(Debug)]
pub struct FrameBuffer {
    /// What is expected of a frame of which nobody says how large it will be.
    expected: usize,
    is_expected: bool,
    /// The frame, and behind it what is left of its block.
    block: BytesMut,
    /// What comes behind `block`: the beginning of a line.
    line: [u8; LINE],
    in_line: usize,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self { expected: 0, is_expected: false, block: BytesMut::new(), line: [0; LINE], in_line: 0 }
    }
}

impl FrameBuffer {
    /// Begin a frame of about `size` bytes, or about as large as the last one of which nobody could say.
    ///
    /// One that becomes larger is copied to where there is room. So a header can claim no more than half a block, and what
    /// is expected beyond that came once: memory that nothing uses is bounded by what was received.
    pub fn begin(&mut self, size: Option<u16>) {
        self.clear();
        self.is_expected = size.is_none();
        let room = size.map_or(self.expected, usize::from) + LINE;
        if self.block.capacity() < room {
            self.block = BytesMut::with_capacity(room.max(BLOCK_BYTES));
        }
        let to_line = self.block.as_ptr().align_offset(LINE);
        self.block.resize(to_line, 0);
        self.block.advance(to_line);
    }

    pub fn append(&mut self, data: &[u8]) {
        let to_head = HEAD_BYTES.saturating_sub(self.block.len()).min(data.len());
        let (head, rest) = data.split_at(to_head);
        self.write(head);
        if self.in_line > 0 || self.is_at_line() {
            self.write_past_caches(rest);
        } else {
            self.write(rest);
        }
    }

    /// Written past the caches from the end of the block, which is the end of a line.
    fn write_past_caches(&mut self, data: &[u8]) {
        let to_line = if self.in_line > 0 { (LINE - self.in_line).min(data.len()) } else { 0 };
        let (end_of_line, data) = data.split_at(to_line);
        self.hold(end_of_line);
        if self.in_line == LINE {
            let line = self.line;
            self.in_line = 0;
            self.write_lines(&line);
        }
        let (lines, rest) = data.split_at(data.len() / LINE * LINE);
        self.write_lines(lines);
        self.hold(rest);
    }

    fn hold(&mut self, part: &[u8]) {
        self.line[self.in_line..self.in_line + part.len()].copy_from_slice(part);
        self.in_line += part.len();
    }

    fn write_lines(&mut self, lines: &[u8]) {
        self.make_room(lines.len());
        if !self.is_at_line() {
            return self.block.extend_from_slice(lines); // the frame outgrew its block
        }
        let end = self.block.len() + lines.len();
        past_caches::write(&mut self.block.spare_capacity_mut()[..lines.len()], lines);
        // SAFETY: everything up to there is written now.
        unsafe { self.block.set_len(end) };
    }

    fn write(&mut self, data: &[u8]) {
        self.make_room(data.len());
        self.block.extend_from_slice(data);
    }

    fn make_room(&mut self, size: usize) {
        if self.block.capacity() - self.block.len() < size {
            past_caches::settle(); // the frame is read
            self.block.reserve(size);
        }
    }

    fn is_at_line(&self) -> bool {
        self.block.as_ptr().wrapping_add(self.block.len()).align_offset(LINE) == 0
    }

    /// Bring all of the frame into the block.
    fn settle(&mut self) {
        let (line, size) = (self.line, std::mem::take(&mut self.in_line));
        self.write(&line[..size]);
        past_caches::settle();
    }

    /// The frame so far. To look into it has its price: what follows is written as usual.
    pub fn data(&mut self) -> &[u8] {
        self.settle();
        &self.block
    }

    pub fn truncate(&mut self, size: usize) {
        self.settle();
        self.block.truncate(size);
    }

    /// Drop the frame in the making; true when there was one.
    pub fn clear(&mut self) -> bool {
        let had_any = !self.is_empty();
        if had_any {
            self.truncate(0);
        }
        had_any
    }

    pub fn len(&self) -> usize {
        self.block.len() + self.in_line
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame is whole.
    pub fn take(&mut self) -> Bytes {
        self.settle();
        if std::mem::take(&mut self.is_expected) {
            self.expected = self.len() + self.len() / 8;
        }
        self.block.split().freeze()
    }
}

#[cfg(target_arch = "x86_64")]
mod past_caches {
    use super::{MaybeUninit, LINE};
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    const WORD: usize = size_of::<__m128i>();

    /// Write whole lines to room of the same size that begins at one. [`settle`] must come before they are read.
    pub fn write(room: &mut [MaybeUninit<u8>], lines: &[u8]) {
        assert!(room.len() == lines.len() && room.len() % LINE == 0);
        assert_eq!(room.as_ptr().align_offset(LINE), 0);
        for (to, from) in room.chunks_exact_mut(LINE).zip(lines.chunks_exact(LINE)) {
            for at in (0..LINE).step_by(WORD) {
                // SAFETY: both pieces are as long as a line; what is written begins at one and may be anything before.
                unsafe {
                    let word = _mm_loadu_si128(from.as_ptr().add(at).cast());
                    _mm_stream_si128(to.as_mut_ptr().add(at).cast(), word);
                }
            }
        }
    }

    /// Let what was written be seen by every read that follows, of other threads too.
    pub fn settle() {
        // SAFETY: touches no memory; every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod past_caches {
    use super::MaybeUninit;

    pub fn write(room: &mut [MaybeUninit<u8>], lines: &[u8]) {
        room.iter_mut().zip(lines).for_each(|(to, &from)| {
            to.write(from);
        });
    }

    pub fn settle() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 33) as usize % bound
        }

        fn bytes(&mut self, size: usize) -> Vec<u8> {
            (0..size).map(|_| self.below(256) as u8).collect()
        }
    }

    #[test]
    fn whatever_is_done_to_a_frame_it_is_what_a_vector_would_be() {
        let mut random = Random(0x2545_F491_4F6C_DD1D);
        let mut frames: Vec<(Bytes, Vec<u8>)> = Vec::new();
        let mut buffer = FrameBuffer::default();
        for _ in 0..400 {
            // Some frames are as large as was said, some outgrow it.
            buffer.begin((random.below(4) > 0).then(|| random.below(40_000) as u16));
            let mut like = Vec::new();
            for _ in 0..random.below(40) {
                match random.below(20) {
                    0 => assert_eq!(buffer.data(), like),
                    1 => {
                        let size = random.below(like.len() + 1).max(like.len().saturating_sub(100));
                        buffer.truncate(size);
                        like.truncate(size);
                    }
                    2 => assert_eq!(buffer.clear(), !std::mem::take(&mut like).is_empty()),
                    n => {
                        let size = if n < 6 { random.below(130) } else { random.below(3000) };
                        let piece = random.bytes(size);
                        buffer.append(&piece);
                        like.extend(piece);
                    }
                }
                assert_eq!((buffer.len(), buffer.is_empty()), (like.len(), like.is_empty()));
            }
            frames.push((buffer.take(), like));
            assert!(buffer.is_empty());
        }
        assert!(frames.iter().all(|(frame, like)| frame == like));
    }

    #[test]
    fn frames_begin_at_lines_of_blocks_they_share() {
        let mut buffer = FrameBuffer::default();
        let frames: Vec<Bytes> = (0..8)
            .map(|n| {
                buffer.begin(Some(10_001));
                buffer.append(&[n; 10_001]);
                buffer.take()
            })
            .collect();
        let starts: Vec<usize> = frames.iter().map(|frame| frame.as_ptr() as usize).collect();
        assert!(starts.iter().all(|start| start % LINE == 0));
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 10_048));
    }

    #[test]
    fn a_frame_larger_than_a_block_and_than_was_said_is_kept_whole() {
        let mut buffer = FrameBuffer::default();
        buffer.begin(Some(1000));
        let all: Vec<u8> = (0..3 * BLOCK_BYTES).map(|n| (n / 7) as u8).collect();
        all.chunks(1388).for_each(|piece| buffer.append(piece));
        assert_eq!(buffer.take(), all);
    }
}
