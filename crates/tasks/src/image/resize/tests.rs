use super::super::exif::Orientation;
use super::*;

/// A grey picture of this content.
fn grey(width: u32, height: u32, pixels: impl Iterator<Item = u8>) -> Picture {
    let pixels: Vec<u8> = pixels.take((width * height) as usize).collect();
    Picture { size: Size::new(width, height), channels: 1, pixels, orientation: Orientation::default() }
}

fn span(from: u32, to: u32, start: u32, len: u32) -> Span {
    Span { from, to, start, len, pad: 0 }
}

/// Numbers that look random.
fn noise() -> impl Iterator<Item = u8> {
    std::iter::successors(Some(1u32), |last| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)))
        .map(|number| (number >> 24) as u8)
}

#[test]
fn the_nearest_pixels_are_pillows() {
    // Pillow: Image.frombytes("L", (5, 1), bytes(range(5))).resize((3, 1), NEAREST), and (8, 1).
    let row = |to| {
        let fit = Fit { across: span(5, to, 0, to), down: span(1, 1, 0, 1) };
        resize(grey(5, 1, 0..5), fit, Filter::Nearest).unwrap().0.pixels
    };
    assert_eq!(row(3), [0, 2, 4]);
    assert_eq!(row(8), [0, 0, 1, 2, 2, 3, 4, 4]);
}

#[test]
fn a_part_is_what_the_whole_has_there() {
    for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
        for (from, to) in [((97, 61), (40, 33)), ((20, 13), (57, 40)), ((50, 31), (50, 64)), ((50, 31), (23, 31))] {
            let all = Fit { across: span(from.0, to.0, 0, to.0), down: span(from.1, to.1, 0, to.1) };
            let part = Fit { across: span(from.0, to.0, 9, 12), down: span(from.1, to.1, 7, 20) };
            let (whole, _) = resize(grey(from.0, from.1, noise()), all, filter).unwrap();
            let (cut, fit) = resize(grey(from.0, from.1, noise()), part, filter).unwrap();
            for y in 0..20 {
                for x in 0..12 {
                    let of_whole = whole.pixels[((y + 7) * to.0 + x + 9) as usize];
                    let place = (y + fit.down.start) * cut.size.width + x + fit.across.start;
                    // Where a part begins is a fraction, which rounds differently now and then.
                    let difference = cut.pixels[place as usize].abs_diff(of_whole);
                    assert!(difference <= 1, "{filter:?} {from:?} {to:?} at {x},{y}: {difference}");
                }
            }
        }
    }
}

#[test]
fn a_picture_on_its_side_is_resized_as_if_it_stood() {
    // The same picture, once upright and once with its rows stored as columns.
    let upright = grey(61, 97, noise());
    let stored = (0..61).flat_map(|x| (0..97).map(move |y| (x, y)));
    let lying = Picture {
        orientation: Orientation { transpose: true, ..Orientation::default() },
        ..grey(97, 61, stored.map(|(x, y)| upright.pixels[y * 61 + x]).collect::<Vec<_>>().into_iter())
    };
    let fit = Fit { across: span(61, 30, 3, 20), down: span(97, 40, 5, 20) };
    for filter in [Filter::Bilinear, Filter::Lanczos] {
        let (stood, _) = resize(grey(61, 97, noise()), fit, filter).unwrap();
        let copy = Picture { pixels: lying.pixels.clone(), ..lying };
        let (lay, _) = resize(copy, fit.as_stored(lying.orientation), filter).unwrap();
        for y in 0..20 {
            for x in 0..20 {
                assert_eq!(stood.pixels[y * 20 + x], lay.pixels[x * 20 + y], "{filter:?} at {x},{y}");
            }
        }
    }
}
