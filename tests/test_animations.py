import io

import av
import numpy as np
import pytest
from PIL import Image

from stochdeconv.animations import as_frames, gif_bytes, mp4_bytes
from stochdeconv.errors import InputError


@pytest.fixture
def frames():
    """A red square on grey that goes to the right."""
    frames = np.full((5, 33, 48, 3), 128, np.uint8)
    for i in range(5):
        frames[i, 8:24, 4 + 6 * i : 20 + 6 * i] = [220, 30, 30]
    return frames


def test_a_gif_holds_every_frame_and_loops(frames):
    encoded = gif_bytes(frames, frame_rate=10)
    assert encoded == gif_bytes(frames, frame_rate=10)
    with Image.open(io.BytesIO(encoded)) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (5, 0, 100)
        for i in range(5):
            gif.seek(i)
            assert np.abs(np.asarray(gif.convert("RGB"), int) - frames[i]).max() <= 12


def test_an_mp4_holds_every_frame_and_can_be_played_anywhere(frames):
    encoded = mp4_bytes(frames, frame_rate=10)
    assert encoded == mp4_bytes(frames, frame_rate=10)
    with av.open(io.BytesIO(encoded)) as movie:
        stream = movie.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 10)
        decoded = [frame.to_ndarray(format="rgb24") for frame in movie.decode(stream)]
    assert np.shape(decoded) == (5, 32, 48, 3)
    for shown, frame in zip(decoded, frames[:, :32], strict=True):
        assert np.abs(shown.astype(int) - frame).mean() < 6


def test_what_is_no_animation_is_refused(frames):
    for bad in (frames[:0], frames[..., 0], frames / 255.0):
        for encode in (gif_bytes, mp4_bytes):
            with pytest.raises(InputError, match="uint8 frames"):
                encode(bad)
    with pytest.raises(InputError, match="at least 2x2"):
        mp4_bytes(frames[:, :1])


def test_images_become_frames_by_rounding():
    assert as_frames([np.full((2, 2, 3), value) for value in (-0.1, 0.5, 1.2)])[:, 0, 0, 0].tolist() == [0, 128, 255]
