import io

import av
import numpy as np
import pytest
from PIL import Image

from stochdeconv.errors import InputError
from stochdeconv.images.animations import Film, as_frames, gif_bytes, mp4_bytes
from stochdeconv.images.sheets import contact_sheet


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
    # Some settings of the encoder give one of two results by chance.
    assert {encoded} == {mp4_bytes(frames, frame_rate=10) for _ in range(40)}
    with av.open(io.BytesIO(encoded)) as movie:
        stream = movie.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 10)
        decoded = [frame.to_ndarray(format="rgb24") for frame in movie.decode(stream)]
    assert np.shape(decoded) == (5, 32, 48, 3)
    for picture, frame in zip(decoded, frames[:, :32], strict=True):
        assert np.abs(picture.astype(int) - frame).mean() < 6


def test_what_is_no_animation_is_refused(frames):
    for bad in (frames[:0], frames[..., 0], frames / 255.0):
        for encode in (gif_bytes, mp4_bytes):
            with pytest.raises(InputError, match="uint8 frames"):
                encode(bad)
    with pytest.raises(InputError, match="at least 2x2"):
        mp4_bytes(frames[:, :1])


def test_images_become_frames_by_rounding():
    assert as_frames([np.full((2, 2, 3), value) for value in (-0.1, 0.5, 1.2)])[:, 0, 0, 0].tolist() == [0, 128, 255]


def exposed(n_steps, *sizes, last=None):
    """A film of batches of some sizes; every picture has the grey of its step. The last batch may stop before its end."""
    film, taken = Film(n_steps), []
    for number, size in enumerate(sizes):
        for step in range(1, (last if last and number == len(sizes) - 1 else n_steps) + 1):

            def images(step=step, size=size):
                taken.append(step)
                return np.full((size, 4, 6, 3), step / n_steps)

            film.expose(step, images)
    return film.frames(), taken


@pytest.mark.parametrize("n_steps", [1, 2, 7, 256, 5000])
def test_a_film_goes_from_the_first_step_to_the_last_in_at_most_64_frames(n_steps):
    frames, taken = exposed(n_steps, 1)
    assert frames.shape[1:] == (4, 6, 3)
    assert taken[0] == 1 and taken[-1] == n_steps and len(taken) == len(set(taken))
    assert min(n_steps, 40) <= len(taken) < len(frames) <= 64
    assert n_steps < 64 or taken[len(taken) // 2] < 0.4 * n_steps  # closer to each other early on
    assert np.all(frames[len(taken) - 1 :] == 255)  # the last one is held


def test_a_film_shows_all_batches_side_by_side():
    frames, _ = exposed(3, 2, 1)
    np.testing.assert_array_equal(frames[0], as_frames(contact_sheet(np.full((3, 4, 6, 3), 1 / 3))))


def test_a_film_of_many_images_shows_the_first_16():
    frames, taken = exposed(2, 10, 10, 10, 10)
    assert len(taken) == 4
    np.testing.assert_array_equal(frames[-1], as_frames(contact_sheet(np.ones((16, 4, 6, 3)))))


def test_a_batch_that_was_interrupted_stays_as_it_was():
    frames, _ = exposed(4, 1, 1, last=3)
    np.testing.assert_allclose(
        frames[-1] / 255.0, contact_sheet(np.stack([np.ones((4, 6, 3)), np.full((4, 6, 3), 0.75)])), atol=0.003
    )
    assert Film(4).frames() is None
