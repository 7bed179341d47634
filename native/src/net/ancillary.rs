//! The ancillary bytes of a message: how large the datagrams in a buffer are, or shall be.
//!
//! They are read and written by hand, because libc's macros are no safer and hide the layout.

/// Room for one ancillary message of an int or a u16: header (16) and value padded to 8.
pub(super) const CONTROL_BYTES: usize = 24;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control(pub [u8; CONTROL_BYTES]);

const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();

impl Control {
    pub const EMPTY: Self = Self([0; CONTROL_BYTES]);

    /// Have the kernel cut what is sent into datagrams of so many bytes.
    pub fn of_segments(segment: usize) -> Self {
        let mut control = [0u8; CONTROL_BYTES];
        control[..8].copy_from_slice(&(CMSG_HEADER + 2).to_ne_bytes());
        control[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        control[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        control[16..18].copy_from_slice(&(segment as u16).to_ne_bytes());
        Self(control)
    }
}

/// The size of the datagrams in a buffer that was received, when it holds several.
pub(super) fn gro_size(control: &[u8]) -> Option<usize> {
    let level = i32::from_ne_bytes(control.get(8..12)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(control.get(12..16)?.try_into().ok()?);
    let size = i32::from_ne_bytes(control.get(16..20)?.try_into().ok()?);
    (level == libc::SOL_UDP && kind == libc::UDP_GRO && size > 0).then_some(size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_only_where_it_is_told() {
        let told = |level: i32, kind: i32, size: i32| {
            let mut control = Control::EMPTY.0;
            control[8..12].copy_from_slice(&level.to_ne_bytes());
            control[12..16].copy_from_slice(&kind.to_ne_bytes());
            control[16..20].copy_from_slice(&size.to_ne_bytes());
            gro_size(&control)
        };
        assert_eq!(told(libc::SOL_UDP, libc::UDP_GRO, 1400), Some(1400));
        assert_eq!(told(libc::SOL_UDP, libc::UDP_GRO, 0), None);
        assert_eq!(told(libc::SOL_SOCKET, libc::UDP_GRO, 1400), None);
        assert_eq!(gro_size(&[0; 19]), None);
    }
}
