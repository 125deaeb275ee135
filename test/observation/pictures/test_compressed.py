# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A compressed picture is what its first bytes say, and what its camera sent; whatever is broken is refused."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest

from vla_driver.observation import decode
from vla_driver.types import Image, InvalidInput


@pytest.fixture(scope='module')
def picture() -> Image:
    """Smooth colours, 90 x 160, no two channels alike."""
    seed = np.random.default_rng(1).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(seed, (160, 90), interpolation=cv2.INTER_CUBIC))


def file(pixels: np.ndarray, kind: str) -> bytes:
    """Return pixels, as they are, in a file that OpenCV writes."""
    return cv2.imencode(f'.{kind}', pixels)[1].tobytes()


def mosaic(picture: Image) -> np.ndarray:
    """Return what a camera with an RGGB filter sees."""
    out = picture[..., 1].copy()
    out[::2, ::2], out[1::2, 1::2] = picture[::2, ::2, 0], picture[1::2, 1::2, 2]
    return out


@pytest.mark.parametrize('format', ['jpeg', 'jpg', 'JPEG', 'bgr8; jpeg compressed bgr8', 'rgb8; jpeg compressed '])
@pytest.mark.parametrize('subsampling', ['444', '422', '420'])
def test_jpeg_round_trip(picture: Image, format: str, subsampling: str):
    got = decode.decode_compressed(decode.encode_jpeg(picture, 95, subsampling), format)
    assert np.abs(got.astype(int) - picture).mean() < 3.5


@pytest.mark.parametrize('container', [bytes, bytearray, memoryview, lambda b: array.array('B', b), np.frombuffer])
def test_any_byte_buffer_will_do(picture: Image, container):
    jpeg = decode.encode_jpeg(picture)
    data = np.frombuffer(jpeg, 'u1') if container is np.frombuffer else container(jpeg)
    assert decode.decode_compressed(data).shape == (90, 160, 3)


def test_grey_jpeg_becomes_rgb(picture: Image):
    data = cv2.imencode('.jpg', picture[..., 0])[1].tobytes()
    got = decode.decode_compressed(data)
    assert got.shape == (90, 160, 3)
    assert np.array_equal(got[..., 0], got[..., 2])


@pytest.mark.parametrize(
    ('at_least', 'want'),
    [
        (None, (160, 96)),
        ((160, 96), (160, 96)),
        ((500, 1), (160, 96)),
        ((81, 48), (160, 96)),
        ((80, 49), (160, 96)),
        ((80, 48), (80, 48)),
        ((40, 24), (40, 24)),
        ((33, 7), (40, 24)),
        ((20, 12), (20, 12)),
        ((1, 1), (20, 12)),
    ],
)
def test_scaled_decoding_is_the_smallest_that_suffices(
    picture: Image, at_least: tuple[int, int] | None, want: tuple[int, int]
):
    whole = cv2.resize(picture, (160, 96))
    got = decode.decode_compressed(decode.encode_jpeg(whole), 'jpeg', at_least)
    assert got.shape == (want[1], want[0], 3)
    assert np.abs(got.astype(int) - cv2.resize(whole, want, interpolation=cv2.INTER_AREA)).mean() < 2.0


def test_scaled_decoding_does_not_stretch():
    """90 rows at 1/4 would be 23, the last one half empty: 2 % too high.  900 at 1/8 is 0.4 %: let through."""
    small, large = np.zeros((90, 160, 3), np.uint8), np.zeros((900, 1600, 3), np.uint8)
    assert decode.decode_compressed(decode.encode_jpeg(small), 'jpeg', (40, 22)).shape == (45, 80, 3)
    assert decode.decode_compressed(decode.encode_jpeg(large), 'jpeg', (160, 96)).shape == (113, 200, 3)
    assert decode.decode_compressed(decode.encode_jpeg(large), 'jpeg', (320, 192)).shape == (225, 400, 3)


@pytest.mark.parametrize('share', [0.0, 0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize('at_least', [None, (20, 12)])
@pytest.mark.parametrize('encode', [decode.encode_jpeg, decode.encode_png])
def test_truncated_files_are_refused(picture: Image, share: float, at_least: tuple[int, int] | None, encode):
    """Libjpeg itself would only warn and fill the rest with grey."""
    data = encode(picture)
    assert decode.decode_compressed(data, 'jpeg').shape == (90, 160, 3)
    with pytest.raises(InvalidInput):
        decode.decode_compressed(data[: int(share * len(data))], 'jpeg', at_least)


@pytest.mark.parametrize('encode', [decode.encode_jpeg, decode.encode_png])
def test_damage_in_the_middle_is_refused(picture: Image, encode):
    data = bytearray(encode(picture))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    with pytest.raises(InvalidInput):
        decode.decode_compressed(data, 'jpeg')


def test_one_missing_byte_is_noticed(picture: Image):
    with pytest.raises(InvalidInput, match='truncated'):
        decode.decode_compressed(decode.encode_jpeg(picture)[:-1])


@pytest.mark.parametrize('at_least', [None, (20, 12)])
def test_fill_bytes_before_a_marker_are_harmless(picture: Image, at_least: tuple[int, int] | None):
    """Many webcams write some into every frame.  The picture is complete, which libjpeg warns about nonetheless."""
    data = decode.encode_jpeg(cv2.resize(picture, (160, 96)))
    filled = data[:-2] + b'\x01\x02\x03' + data[-2:]
    want = decode.decode_compressed(data, 'jpeg', at_least)
    assert np.array_equal(decode.decode_compressed(filled, 'jpeg', at_least), want)
    for end in (len(filled) // 2, len(filled) - 2, len(filled) - 1):
        with pytest.raises(InvalidInput, match='truncated'):
            decode.decode_compressed(filled[:end], 'jpeg', at_least)


def test_fill_bytes_do_not_hide_an_early_end(picture: Image):
    """Filled before each restart marker and cut off amid the picture, with a whole preview in front."""
    encoded = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1].tobytes()
    preview = decode.encode_jpeg(picture[:16, :16])
    application = b'\xff\xe1' + (len(preview) + 2).to_bytes(2, 'big') + preview
    data = encoded[:2] + application + encoded[2:]
    filled = data.replace(b'\xff\xd0', b'\x05\xff\xd0').replace(b'\xff\xd1', b'\x05\xff\xd1')
    assert np.array_equal(decode.decode_compressed(filled), decode.decode_compressed(encoded))
    for share in (0.5, 0.8, 0.95):
        with pytest.raises(InvalidInput, match='truncated'):
            decode.decode_compressed(filled[: int(share * len(filled))])


@pytest.mark.parametrize('format', ['', 'png', 'jpg', 'bgr8', 'rgb8; jpeg compressed bgr8', 'h264', 'what?', 'mono8'])
@pytest.mark.parametrize('encode', [decode.encode_jpeg, decode.encode_png])
def test_the_first_bytes_tell_the_kind_of_file(picture: Image, format: str, encode):
    got = decode.decode_compressed(encode(picture), format)
    assert np.abs(got.astype(int) - picture).mean() < 3.5


@pytest.mark.parametrize('kind', ['webp', 'tiff', 'bmp'])
def test_other_files_of_cameras(picture: Image, kind: str):
    data = file(picture[..., ::-1], kind)
    assert np.array_equal(decode.decode_compressed(data, kind), picture)
    for share in (0.05, 0.5, 0.99):
        with pytest.raises(InvalidInput, match='truncated'):
            decode.decode_compressed(data[: int(share * len(data))], kind)


@pytest.mark.parametrize('format', ['jpeg', '', 'h264'])
def test_content_that_is_none_of_them_is_refused(format: str):
    with pytest.raises(InvalidInput, match=r'neither JPEG nor PNG.*begins with 47 49 46'):
        decode.decode_compressed(b'GIF89a' + bytes(100), format)
    with pytest.raises(InvalidInput, match='begins with nothing'):
        decode.decode_compressed(b'', format)


@pytest.mark.parametrize('words', ['jpeg compressed ', 'jpeg compressed mono8', 'png compressed '])
@pytest.mark.parametrize('at_least', [None, (80, 45)])
def test_a_mosaic_gets_its_colours_back(picture: Image, words: str, at_least: tuple[int, int] | None):
    """As image_transport sends it: compressed as if it were grey."""
    data = file(mosaic(picture), words.split()[0])
    got = decode.decode_compressed(data, f'bayer_rggb8; {words}', at_least)
    want = picture if at_least is None else cv2.resize(picture, (80, 45), interpolation=cv2.INTER_AREA)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want)[3:-3, 3:-3].mean() < 3.5
    wrong = decode.decode_compressed(data, f'bayer_bggr8; {words}', at_least)
    assert np.abs(wrong.astype(int) - want).mean() > 20  # the pattern is the format's


def test_a_mosaic_of_16_bits(picture: Image):
    data = file(mosaic(picture).astype(np.uint16) * 257, 'png')
    want = decode.decode_compressed(file(mosaic(picture), 'png'), 'bayer_rggb8; png compressed ')
    got = decode.decode_compressed(data, 'bayer_rggb16; png compressed ')
    assert np.abs(got.astype(int) - want).max() <= 1


def test_a_colour_file_of_a_camera_with_a_mosaic_is_taken_as_it_is(picture: Image):
    data = decode.encode_png(picture)
    for format in ('bayer_rggb8; png compressed bgr8', 'yuv422; png compressed bgr8', 'yuv422_yuy2; jpeg compressed'):
        assert np.array_equal(decode.decode_compressed(data, format), picture)


@pytest.mark.parametrize('encoding', ['yuv422', 'YUYV', 'yuv422_yuy2', 'uyvy', 'nv12'])
@pytest.mark.parametrize('kind', ['jpg', 'png'])
def test_yuv_compressed_as_brightness_is_refused(picture: Image, encoding: str, kind: str):
    with pytest.raises(InvalidInput, match='the file is grey: YUV was compressed as if'):
        decode.decode_compressed(file(picture[..., 0], kind), f'{encoding}; {kind} compressed ')


@pytest.mark.parametrize(
    'format',
    ['bayer_rggb12', 'BayerRG8', 'bayer_rg8', 'rggb8', 'SRGGB10', 'jpeg; bayer_rggb8', 'jpeg compressed bayer_rggb8'],
)
@pytest.mark.parametrize('kind', ['jpg', 'png'])
def test_a_mosaic_under_any_name(picture: Image, format: str, kind: str):
    got = decode.decode_compressed(file(mosaic(picture), kind), format)
    assert np.abs(got.astype(int) - picture)[3:-3, 3:-3].mean() < 3.5


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_genicam_names_a_mosaic_by_its_first_row(picture: Image, pattern: str):
    data = file(picture[..., 0], 'png')
    want = decode.decode_compressed(data, f'bayer_{pattern}8')
    for format in (f'{pattern}8', f'Bayer{pattern[:2].upper()}8', f'png; {pattern}8'):
        assert np.array_equal(decode.decode_compressed(data, format), want)


@pytest.mark.parametrize(
    ('format', 'why'),
    [
        *((name, 'YUV') for name in ('yuv', 'YUV444', 'yuv411', 'yuv422p', 'jpeg; yuyv', 'jpeg compressed uyvy')),
        *((name, 'YUV') for name in ('YCbCr422_8', 'nv21', 'I420', 'yv12', 'yvyu', 'nv24', 'yuy2', 'iyuv')),
        *((name, 'pattern') for name in ('bayer', 'BayerRG12p', 'BayerRG12_Packed', 'bayer_rg2rgb', 'rccb12')),
        ('bayer_rggb8; jpeg compressed bayer_bggr8', 'pattern'),
        *((name, 'depth') for name in ('8UC2', 'jpeg; 8UC2', 'z16', 'Z16; png compressed', 'png; depth')),
    ],
)
def test_what_is_no_brightness_is_refused_under_any_name(picture: Image, format: str, why: str):
    for kind in ('jpg', 'png'):
        with pytest.raises(InvalidInput, match=why):
            decode.decode_compressed(file(picture[..., 0], kind), format)
        assert decode.decode_compressed(file(picture, kind), format).shape == picture.shape


def test_12_of_16_bits_are_not_guessed(picture: Image):
    data = file(mosaic(picture).astype(np.uint16) * 16, 'png')
    with pytest.raises(InvalidInput, match='which 12 of them'):
        decode.decode_compressed(data, 'bayer_rggb12; png compressed ')


@pytest.mark.parametrize(
    'format', ['16UC1; compressedDepth png', '16UC1; jpeg compressed ', '32FC1; compressedDepth rvl', '16uc1', '32FC1']
)
def test_depth_is_no_picture(picture: Image, format: str):
    for data in (file(picture[..., 0], 'jpg'), file(picture[..., 0].astype(np.uint16), 'png'), bytes(100)):
        with pytest.raises(InvalidInput, match='depth'):
            decode.decode_compressed(data, format)


def test_16_bits_of_a_picture_become_8(picture: Image):
    wide = picture.astype(np.uint16) * 257
    assert np.array_equal(decode.decode_compressed(file(wide[..., ::-1], 'png'), 'png'), picture)
    got = decode.decode_compressed(file(wide[..., 0], 'png'), 'mono16; png compressed ')
    assert np.array_equal(got, np.repeat(picture[..., :1], 3, axis=2))


def test_a_header_that_promises_too_much_is_refused(picture: Image):
    data = bytearray(decode.encode_jpeg(picture))
    at = data.index(b'\xff\xc0') + 5
    data[at : at + 4] = b'\xff\x00\xff\x00'
    with pytest.raises(InvalidInput, match=r'65280x65280.*damaged header'):
        decode.decode_compressed(bytes(data))
    png = bytearray(decode.encode_png(picture))
    png[16:24] = b'\x00\x10' * 4
    with pytest.raises(InvalidInput, match='damaged header'):
        decode.decode_compressed(bytes(png))


def test_a_webcam_s_jpeg_without_tables(picture: Image):
    """Motion JPEG leaves the standard's Huffman tables out."""
    data = cv2.imencode('.jpg', picture[..., ::-1])[1].tobytes()
    bare = data
    while (at := bare.find(b'\xff\xc4')) >= 0:
        bare = bare[:at] + bare[at + 2 + int.from_bytes(bare[at + 2 : at + 4], 'big') :]
    assert np.array_equal(decode.decode_compressed(bare), decode.decode_compressed(data))


def test_png_keeps_pictures_and_labels(picture: Image):
    assert np.array_equal(decode.decode_compressed(decode.encode_png(picture), 'png'), picture)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode.decode_labels(decode.encode_png(labels)), labels)
    with pytest.raises(InvalidInput, match='one channel'):
        decode.decode_labels(decode.encode_png(picture))
    with pytest.raises(InvalidInput, match='no PNG'):
        decode.decode_labels(decode.encode_jpeg(picture))


def test_a_depth_png_does_not_pass_for_a_picture(picture: Image):
    data = cv2.imencode('.png', picture[..., 0].astype(np.uint16) * 100)[1].tobytes()
    for format in ('png', '', 'mono8; png compressed'):
        with pytest.raises(InvalidInput, match='16 bits'):
            decode.decode_compressed(data, format)


def test_encoders_refuse_what_is_no_picture(picture: Image):
    for bad in (picture.astype(np.float32), picture[..., 0], picture[:0]):
        with pytest.raises(InvalidInput):
            decode.encode_jpeg(bad)
    with pytest.raises(InvalidInput, match='1 to 100'):
        decode.encode_jpeg(picture, quality=0)
    with pytest.raises(InvalidInput, match='444, 422, 420'):
        decode.encode_jpeg(picture, subsampling='411')
    with pytest.raises(InvalidInput):
        decode.encode_png(picture.astype(np.uint16))


def test_a_png_without_a_header_is_truncated():
    with pytest.raises(InvalidInput, match='truncated'):
        decode.decode_compressed(b'\x89PNG\r\n\x1a\n' + b'IEND\xaeB`\x82', 'png')


def test_bytes_behind_a_png_do_not_matter(picture: Image):
    data = decode.encode_png(picture)
    for behind in (bytes(5000), b'\xff' * 100, data[:200]):
        assert np.array_equal(decode.decode_compressed(data + behind, 'png'), picture)
    with pytest.raises(InvalidInput, match='truncated'):
        decode.decode_compressed(data[: len(data) // 2] + bytes(500), 'png')
