//! The units a program stream is made of, each begun by 00 00 01 and an identifier.
//!
//! Implements: GB/T 28181-2022 C.1
//! After: ISO/IEC 13818-1 2.5.3 (pack, system header), 2.5.4 (program stream map), 2.4.3.6 (PES)

use memchr::memmem;

use crate::frame::Codec;

/// Identifiers below this belong to elementary streams, not to the program stream.
pub const FIRST: u8 = END;
pub const END: u8 = 0xB9;
pub const PACK: u8 = 0xBA;
pub const SYSTEM_HEADER: u8 = 0xBB;
pub const MAP: u8 = 0xBC;

/// A start code with its identifier.
pub const CODE_BYTES: usize = 4;

/// The standard's own bound on a program stream map, and ours; larger ones are passed over.
const MAP_MAX: usize = 1018;

/// Where a track is and what it holds, by the program stream map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    pub stream_id: u8,
    pub codec: Codec,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Map {
    pub video: Option<Declared>,
    pub audio: Option<Declared>,
}

/// The header of a PES packet. `body` is `None` when its length is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pes {
    pub stream_id: u8,
    pub pts: Option<u64>,
    pub dts: Option<u64>,
    pub header: usize,
    pub body: Option<usize>,
}

/// A unit's header, of `size()` bytes; a body of `body` bytes follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Pack {
        size: usize,
    },
    SystemHeader {
        body: usize,
    },
    Map {
        map: Map,
        size: usize,
    },
    /// Cannot be read, and is passed over by its length.
    BadMap {
        size: usize,
    },
    Video(Pes),
    Audio(Pes),
    /// Private streams, padding, directories, and what nobody knows.
    Other {
        body: usize,
    },
    End,
}

impl Unit {
    pub fn size(&self) -> usize {
        match self {
            Unit::Pack { size } | Unit::Map { size, .. } | Unit::BadMap { size } => *size,
            Unit::SystemHeader { .. } | Unit::Other { .. } => 6,
            Unit::Video(pes) | Unit::Audio(pes) => pes.header,
            Unit::End => 4,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// That many bytes are needed from the start of the unit.
    Need(usize),
    NotAUnit,
}

/// Read the unit header at the front of `data`.
pub fn parse(data: &[u8]) -> Result<Unit, Incomplete> {
    let prefix = &data[..data.len().min(3)];
    if !([0, 0, 1].starts_with(prefix)) {
        return Err(Incomplete::NotAUnit);
    }
    let Some(id) = data.get(3) else { return Err(Incomplete::Need(4)) };
    match *id {
        0..FIRST => Err(Incomplete::NotAUnit),
        END => Ok(Unit::End),
        PACK => parse_pack(data),
        SYSTEM_HEADER => Ok(Unit::SystemHeader { body: length(data)? }),
        MAP => parse_map(data),
        0xC0..=0xDF => Ok(parse_pes(data, *id, false)?.map_or_else(|body| Unit::Other { body }, Unit::Audio)),
        0xE0..=0xEF => Ok(parse_pes(data, *id, true)?.map_or_else(|body| Unit::Other { body }, Unit::Video)),
        _ => Ok(Unit::Other { body: length(data)? }),
    }
}

/// The first start code of the program stream in `data`, known by its identifier.
pub fn find_system_code(data: &[u8]) -> Option<usize> {
    let is_system = |place: &usize| data.get(place + 3).is_some_and(|id| *id >= FIRST);
    memmem::find_iter(data, &[0, 0, 1]).find(is_system)
}

fn length(data: &[u8]) -> Result<usize, Incomplete> {
    match data {
        [_, _, _, _, high, low, ..] => Ok(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => Err(Incomplete::Need(6)),
    }
}

fn parse_pack(data: &[u8]) -> Result<Unit, Incomplete> {
    match data.get(4) {
        Some(byte) if byte & 0xC4 != 0x44 => return Err(Incomplete::NotAUnit),
        _ => {}
    }
    let Some(stuffing) = data.get(13) else { return Err(Incomplete::Need(14)) };
    let size = 14 + usize::from(stuffing & 7);
    if data.len() < size {
        Err(Incomplete::Need(size))
    } else {
        Ok(Unit::Pack { size })
    }
}

fn parse_map(data: &[u8]) -> Result<Unit, Incomplete> {
    let length = length(data)?;
    if length > MAP_MAX {
        return Ok(Unit::Other { body: length });
    }
    let size = 6 + length;
    let Some(body) = data.get(6..size) else { return Err(Incomplete::Need(size)) };
    Ok(read_map(body).map_or(Unit::BadMap { size }, |map| Unit::Map { map, size }))
}

/// The CRC is not looked at: devices get it wrong, and the map is believed only as far as the payload agrees.
fn read_map(body: &[u8]) -> Option<Map> {
    let information = usize::from(u16::from_be_bytes([*body.get(2)?, *body.get(3)?]));
    let rest = body.get(4 + information..)?;
    let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
    let mut entries = rest.get(2..)?;
    entries = &entries[..entries.len().min(length)];
    let mut map = Map::default();
    while let [stream_type, stream_id, high, low, behind @ ..] = entries {
        let declared = Declared { stream_id: *stream_id, codec: Codec::from_stream_type(*stream_type) };
        match *stream_id {
            0xE0..=0xEF => map.video = map.video.or(Some(declared)),
            0xC0..=0xDF => map.audio = map.audio.or(Some(declared)),
            _ => {}
        }
        entries = behind.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or(&[]);
    }
    Some(map)
}

/// The inner error is the body of a PES that contradicts itself, to be passed over.
fn parse_pes(data: &[u8], stream_id: u8, is_video: bool) -> Result<Result<Pes, usize>, Incomplete> {
    let length = length(data)?;
    let Some(&[flags, times, more]) = data.get(6..).and_then(<[u8]>::first_chunk) else {
        return if matches!(length, 1 | 2) { Ok(Err(length)) } else { Err(Incomplete::Need(9)) };
    };
    let more = usize::from(more);
    let is_open = length == 0 && is_video;
    if flags >> 6 != 2 || (!is_open && length < 3 + more) {
        return Ok(Err(length));
    }
    let header = 9 + more;
    let Some(fields) = data.get(9..header) else { return Err(Incomplete::Need(header)) };
    let pts = fields.first_chunk().filter(|_| times & 0x80 != 0).map(read_time);
    let dts = fields.get(5..).and_then(<[u8]>::first_chunk).filter(|_| times & 0xC0 == 0xC0).map(read_time);
    let body = (!is_open).then(|| length - 3 - more);
    Ok(Ok(Pes { stream_id, pts, dts, header, body }))
}

fn read_time(bytes: &[u8; 5]) -> u64 {
    let [a, b, c, d, e] = bytes.map(u64::from);
    (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
}
