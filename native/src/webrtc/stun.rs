//! Whose datagram it is: the user name in a STUN request names the peer that it is for.
//!
//! After: RFC 8489 5, 14.3; RFC 8445 7.2.2

const HEADER_SIZE: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const USERNAME: u16 = 0x0006;

/// The part of the user name before the colon, which is ours; None when it is no STUN message with one.
pub fn local_name(datagram: &[u8]) -> Option<&str> {
    let (header, mut rest) = datagram.split_at_checked(HEADER_SIZE)?;
    if header[0] > 1 || header[4..8] != COOKIE {
        return None;
    }
    // Each attribute is at least four bytes, so the walk ends within the datagram.
    while let Some((head, body)) = rest.split_first_chunk::<4>() {
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if kind == USERNAME {
            let name = std::str::from_utf8(body.get(..length)?).ok()?;
            return name.split_once(':').map(|(ours, _)| ours);
        }
        rest = body.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        out.extend([9; 12]);
        for (kind, value) in attributes {
            out.extend(kind.to_be_bytes());
            out.extend((value.len() as u16).to_be_bytes());
            out.extend(*value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn our_half_of_the_user_name_is_found_behind_other_attributes() {
        let got = message(&[(0x0024, &[0; 4]), (0x8022, b"agent"), (USERNAME, b"ours:theirs")]);
        assert_eq!(local_name(&got), Some("ours"));
        assert_eq!(local_name(&message(&[(USERNAME, b"no colon")])), None);
        assert_eq!(local_name(&message(&[])), None);
    }

    #[test]
    fn cut_and_foreign_datagrams_name_nobody() {
        let whole = message(&[(0x0024, &[0; 4]), (USERNAME, b"ours:theirs")]);
        for length in 0..whole.len() - 1 {
            assert_eq!(local_name(&whole[..length]), None, "{length}");
        }
        let mut dtls = whole.clone();
        dtls[0] = 22;
        assert_eq!(local_name(&dtls), None);
        let mut long = whole;
        long[22..24].copy_from_slice(&[0xFF, 0xFF]);
        assert_eq!(local_name(&long), None);
    }
}
