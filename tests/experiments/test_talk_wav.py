"""A wav that grows: whole after every piece, in its place when it is complete, left where an interruption found it."""

import numpy as np
import pytest
import soundfile

from experiments.talk.wav import WavStream, require_writable

PIECES = [np.linspace(-1.2, 1.2, size, dtype=np.float32) for size in (5, 1, 1000)]


def test_it_is_whole_after_every_piece_and_takes_its_place_at_the_end(tmp_path):
    with WavStream(tmp_path / "a.wav", 24_000) as sound:
        assert soundfile.info(sound.part).frames == 0
        for number, piece in enumerate(PIECES, 1):
            sound.write(piece)
            samples, rate = soundfile.read(sound.part)
            assert rate == 24_000
            # Half a step of 16 bits, and the step by which full scale is short of 1.
            np.testing.assert_allclose(samples, np.clip(np.concatenate(PIECES[:number]), -1, 1), atol=1.6 / 32_768)
        assert not (tmp_path / "a.wav").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert soundfile.info(tmp_path / "a.wav").frames == sound.samples == 1006


def interrupted(path):
    with WavStream(path, 24_000) as sound:
        sound.write(PIECES[0])
        raise KeyboardInterrupt


def test_an_interruption_leaves_the_old_file_and_what_was_said(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == b"old"
    assert soundfile.info(tmp_path / "a.part.wav").frames == 5


def test_an_error_before_the_first_sample_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no"), WavStream(tmp_path / "a.wav", 24_000):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp3", "a", "absent/a.wav", "directory.wav"])
def test_where_no_wav_can_be_written_is_one_clear_error(tmp_path, name):
    (tmp_path / "directory.wav").mkdir()
    with pytest.raises(ValueError, match=r"--out=.*: accepted is a file"):
        require_writable(tmp_path / name)
