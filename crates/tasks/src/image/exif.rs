//! How a picture lies: the orientation that a camera writes beside the pixels.
//!
//! Only EXIF is read, not XMP. Nothing here is an error: a picture whose EXIF makes no sense is
//! taken as it lies.

/// How stored pixels become the picture: first flipped, then mirrored along the diagonal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Orientation {
    /// Left and right of the stored pixels change places.
    pub(crate) flip_x: bool,
    /// Top and bottom of the stored pixels change places.
    pub(crate) flip_y: bool,
    /// Rows become columns.
    pub(crate) transpose: bool,
}

impl Orientation {
    /// Reads the number of EXIF's tag 0x0112.
    fn from_tag(number: u16) -> Option<Self> {
        let (flip_x, flip_y, transpose) = match number {
            1 => (false, false, false),
            2 => (true, false, false),
            3 => (true, true, false),
            4 => (false, true, false),
            5 => (false, false, true),
            6 => (false, true, true),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => return None,
        };
        Some(Self { flip_x, flip_y, transpose })
    }

    /// Finds the orientation in EXIF data: a TIFF header and its first directory.
    pub(crate) fn of_exif(data: &[u8]) -> Self {
        Self::find(data.strip_prefix(b"Exif\0\0").unwrap_or(data)).unwrap_or_default()
    }

    fn find(tiff: &[u8]) -> Option<Self> {
        const ORIENTATION: u16 = 0x0112;
        const SHORT: u16 = 3;
        let big_endian = match tiff.get(..4)? {
            b"II\x2a\0" => false,
            b"MM\0\x2a" => true,
            _ => return None,
        };
        let short = |at: usize| {
            let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
        };
        let long = |at: usize| {
            let (first, second) = (u32::from(short(at)?), u32::from(short(at + 2)?));
            Some(if big_endian { first << 16 | second } else { second << 16 | first })
        };
        let directory = usize::try_from(long(4)?).ok()?;
        let entries = usize::from(short(directory)?);
        let entry = (0..entries).map(|idx| directory + 2 + idx * 12);
        let entry = entry.take_while(|&at| short(at).is_some()).find(|&at| short(at) == Some(ORIENTATION))?;
        if short(entry + 2)? != SHORT {
            return None;
        }
        Self::from_tag(short(entry + 8)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exif(order: &[u8; 2], tag: u16, number: u16) -> Vec<u8> {
        let big = order == b"MM";
        let short = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut data = [order.as_slice(), &short(42), &long(8), &short(2)].concat();
        // Another entry comes first: the width.
        data.extend([short(0x0100), short(3)].concat());
        data.extend([long(1).as_slice(), &short(640), &short(0)].concat());
        data.extend([short(tag), short(3)].concat());
        data.extend([long(1).as_slice(), &short(number), &short(0)].concat());
        data
    }

    #[test]
    fn both_byte_orders_are_read() {
        for order in [b"II", b"MM"] {
            let turned = Orientation { flip_x: false, flip_y: true, transpose: true };
            assert_eq!(Orientation::of_exif(&exif(order, 0x0112, 6)), turned);
            let marked = [b"Exif\0\0".as_slice(), &exif(order, 0x0112, 6)].concat();
            assert_eq!(Orientation::of_exif(&marked), turned);
        }
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        for data in [exif(b"II", 0x0112, 9), exif(b"II", 0x0113, 6), b"II\x2a\0\xff\xff\xff\xff".to_vec(), vec![]] {
            assert_eq!(Orientation::of_exif(&data), Orientation::default());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(tail in prop::collection::vec(any::<u8>(), 0..64), big in any::<bool>()) {
            let head: &[u8] = if big { b"MM\0\x2a" } else { b"II\x2a\0" };
            let _ = Orientation::of_exif(&[head, &tail].concat());
        }
    }
}
