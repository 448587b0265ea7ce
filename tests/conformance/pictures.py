"""Makes the pictures that the tests of picture models ask for: the same ones each time.

Fifty files in all formats that are decoded: odd sizes, every EXIF orientation, grey, alpha,
palettes, 16 bits, CMYK, progressive and subsampled JPEG, lossy and lossless WebP, animations.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageFilter

SEED = 20261122


def photo(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Something like a photo: soft light, a few hard edges, grain."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = np.zeros((height, width, 3))
    for channel in range(3):
        across, down, phase = rng.uniform(0.5, 4, 3)
        wave = np.sin(across * x / width * np.pi + phase) * np.cos(down * y / height * np.pi)
        pixels[..., channel] = 128 + 90 * wave
    for _ in range(6):
        left, top = rng.integers(0, width), rng.integers(0, height)
        wide, high = rng.integers(2, max(3, width // 2)), rng.integers(2, max(3, height // 2))
        pixels[top : top + high, left : left + wide] = rng.uniform(20, 235, 3)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    grain = rng.normal(0, 4, (height, width, 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def png(pixels: np.ndarray, bits: int, rows: list[bytes], interlace: int) -> bytes:
    """A PNG in colour of kinds that Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def interlaced(pixels: np.ndarray) -> bytes:
    """A PNG in the order of Adam7."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx] if row.size]
    return png(pixels, 8, rows, 1)


def sixteen_bits(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits to a channel."""
    return png(pixels, 16, [row.astype(">u2").tobytes() for row in pixels], 0)


def as_ycck(jpeg: bytes) -> bytes:
    """The same bytes, said to be YCCK: the last byte of the Adobe segment is the transform."""
    at = jpeg.index(b"Adobe") + 11
    return jpeg[:at] + b"\x02" + jpeg[at + 1 :]


def make() -> dict[str, bytes]:
    rng = np.random.default_rng(SEED)
    files: dict[str, bytes] = {}

    def save(name: str, image: Image.Image, **options) -> bytes:
        out = io.BytesIO()
        kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rsplit(".", 1)[1]]
        image.save(out, kind, **options)
        files[name] = out.getvalue()
        return files[name]

    # JPEG: subsampling, quality, progressive, odd sizes.
    for subsampling, ratio in enumerate(["444", "422", "420"]):
        for progressive in (False, True):
            kind = "progressive" if progressive else "baseline"
            options = {"quality": 85, "subsampling": subsampling, "progressive": progressive}
            save(f"{kind}-{ratio}.jpg", photo(rng, 151 + subsampling, 97), **options)
    save("photo.jpg", photo(rng, 500, 375), quality=90)
    save("upright.jpg", photo(rng, 241, 333), quality=75)
    save("coarse.jpg", photo(rng, 200, 150), quality=20)
    save("restarts.jpg", photo(rng, 130, 90), quality=80, restart_marker_blocks=3)
    save("optimized.jpg", photo(rng, 90, 130), quality=95, optimize=True)
    save("one-pixel.jpg", photo(rng, 1, 1))
    save("strip.jpg", photo(rng, 300, 7))
    save("grey.jpg", photo(rng, 120, 77).convert("L"), quality=85)
    save("grey-progressive.jpg", photo(rng, 77, 120).convert("L"), quality=85, progressive=True)
    save("kept-rgb.jpg", photo(rng, 64, 48), quality=90, keep_rgb=True)
    cmyk = save("cmyk.jpg", photo(rng, 101, 67).convert("CMYK"), quality=90, subsampling=0)
    files["ycck.jpg"] = as_ycck(cmyk)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = photo(rng, 140, 93)
        if orientation % 2:
            save(f"exif-{orientation}.jpg", image, quality=85, exif=exif)
        else:
            save(f"exif-{orientation}.png", image, exif=exif)

    # PNG: all colour types and depths.
    save("colour.png", photo(rng, 121, 83))
    save("large.png", photo(rng, 400, 300))
    save("grey.png", photo(rng, 83, 121).convert("L"))
    save("bilevel.png", photo(rng, 90, 90).convert("1"))
    for bits in (1, 2, 4, 8):
        save(f"palette-{bits}.png", photo(rng, 75, 61).quantize(2**bits), bits=bits)
    save("palette-clear.png", photo(rng, 75, 61).quantize(16), transparency=3)
    save("clear-colour.png", photo(rng, 60, 60), transparency=(1, 2, 3))
    alpha = photo(rng, 110, 70)
    alpha.putalpha(photo(rng, 110, 70).convert("L"))
    save("alpha.png", alpha)
    save("grey-alpha.png", alpha.convert("LA"))
    files["interlaced.png"] = interlaced(np.asarray(photo(rng, 53, 47)))
    deep = np.asarray(photo(rng, 66, 44)).astype(np.uint16) * 256 + rng.integers(0, 256, (44, 66, 3), np.uint16)
    files["deep.png"] = sixteen_bits(deep)
    save("animated.png", alpha, save_all=True, append_images=[alpha.rotate(180)])
    save("one-pixel.png", photo(rng, 1, 1))
    save("tall.png", photo(rng, 9, 211))
    tagged = Image.Exif()
    tagged[0x0112] = 6
    save("grey-turned.png", photo(rng, 47, 31).convert("L"), exif=tagged)
    save("restarts-420.jpg", photo(rng, 77, 75), quality=60, subsampling=2, restart_marker_rows=1)

    # WebP: lossy, lossless, alpha, animated, EXIF.
    save("lossy.webp", photo(rng, 161, 99), quality=80)
    save("lossless.webp", photo(rng, 99, 61), lossless=True)
    save("alpha.webp", alpha, quality=80)
    exif = Image.Exif()
    exif[0x0112] = 8
    save("exif-8.webp", photo(rng, 90, 50), lossless=True, exif=exif)
    save("animated.webp", photo(rng, 80, 60), save_all=True, append_images=[photo(rng, 80, 60)], lossless=True)
    return files
