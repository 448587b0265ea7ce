use super::*;

const BASELINE: &[u8] = include_bytes!("../../../corpus/picture/baseline.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("../../../corpus/picture/progressive.jpg");
const CMYK: &[u8] = include_bytes!("../../../corpus/picture/cmyk.jpg");

#[track_caller]
fn refused(file: &[u8], expected: &str) {
    let error = decode(file, Wanted::Colour).unwrap_err();
    assert!(error.message().contains(expected), "{error}");
}

/// Puts `bytes` behind the first marker `ff MARKER`, from `offset`.
fn patched(file: &[u8], marker: u8, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let at = file.windows(2).position(|pair| pair == [0xff, marker]).unwrap() + 2 + offset;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn the_markers_say_what_is_in_a_file() {
    let outline = Outline::read(BASELINE).unwrap();
    assert_eq!((outline.size, outline.n_scans, outline.progressive), (Size::new(23, 17), 1, false));
    assert_eq!(outline.samplings, [(2, 2), (1, 1), (1, 1)]);
    assert_eq!(outline.memory(), 23 * 17 * 3);
    let outline = Outline::read(PROGRESSIVE).unwrap();
    assert_eq!((outline.n_scans, outline.progressive), (10, true));
    // Two by two units of six blocks of 64 numbers of two bytes.
    assert_eq!(outline.memory(), 23 * 17 * 3 + 4 * 6 * 128);
}

#[test]
fn every_beginning_is_refused() {
    for file in [BASELINE, PROGRESSIVE, CMYK] {
        assert!(decode(file, Wanted::Colour).is_ok());
        for end in 2..file.len() {
            assert!(decode(&file[..end], Wanted::Colour).is_err(), "{end} of {} bytes", file.len());
        }
    }
    refused(&BASELINE[..BASELINE.len() - 2], "it breaks off before its end; send the whole file");
}

#[test]
fn what_comes_after_the_end_does_not_matter() {
    let followed = [BASELINE, b"\xff\xd8 another picture, as some cameras write them"].concat();
    let (alone, followed) = (decode(BASELINE, Wanted::Colour).unwrap(), decode(&followed, Wanted::Colour).unwrap());
    assert_eq!(alone.pixels, followed.pixels);
}

#[test]
fn sizes_and_memory_are_looked_at_first() {
    // Behind length and precision stand height and width.
    let huge = patched(BASELINE, 0xc0, 3, &[0x75, 0x30, 0x75, 0x30]);
    refused(&huge, "the picture has 30000x30000 pixels; at most 64 million are taken");
    // 60 million pixels fit; their coefficients, kept until the last scan, do not.
    let large = patched(PROGRESSIVE, 0xc2, 3, &[0x1d, 0x4c, 0x1f, 0x40]);
    refused(&large, "decoding the 8000x7500 picture takes 343 MiB; at most 256 MiB are allowed");
    refused(&patched(BASELINE, 0xc0, 3, &[0, 0, 0, 1]), "the picture has 1x0 pixels");
}

#[test]
fn kinds_that_are_not_decoded_are_named() {
    let lossless = patched(BASELINE, 0xc0, 0, &[]);
    let at = lossless.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 1;
    let with = |marker: u8| [&lossless[..at], &[marker], &lossless[at + 1..]].concat();
    refused(&with(0xc3), "it is lossless (marker ffc3)");
    refused(&with(0xc9), "it is arithmetic-coded");
    refused(&with(0xc5), "it is hierarchical");
    refused(&patched(BASELINE, 0xc0, 2, &[12]), "it has 12 bits to a sample");
    refused(&patched(BASELINE, 0xc0, 7, &[2]), "its components make no sense");
}

#[test]
fn endless_scans_are_refused() {
    let scan = PROGRESSIVE.windows(2).rposition(|pair| pair == [0xff, START_OF_SCAN]).unwrap();
    let (head, last) = (&PROGRESSIVE[..scan], &PROGRESSIVE[scan..PROGRESSIVE.len() - 2]);
    let file = [head, &last.repeat(100), &[0xff, END]].concat();
    refused(&file, "it has 109 scans; at most 64 are taken of 23x17 pixels");
    let file = [head, &last.repeat(10), &[0xff, END]].concat();
    // 36 million pixels.
    refused(&patched(&file, 0xc2, 3, &[0x17, 0x70, 0x17, 0x70]), "it has 19 scans; at most 17 are taken");
}
