"""Codes of a corpus: kept with their texts, resumable, and never mixed between codecs."""

import numpy as np
import pytest

from data_pipelines.speech_codes.codes import open_codes, write_codes
from data_pipelines.speech_corpus.builder import open_corpus


def encode(audios):
    """Two codebooks of ten codes a second."""
    return [np.stack([audio[::1600] % 256, audio[::1600] % 7], axis=1).astype(np.uint16) for audio in audios]


def test_codes_lie_beside_the_text_and_word_times_of_their_utterance(small_corpus, tmp_path):
    codes = write_codes(small_corpus, tmp_path / "codes", encode, codec="a", batch_size=4, records_per_shard=10)
    assert codes.splits == ("train", "test")
    assert codes.num_codebooks == 2
    num_chars, num_frames = codes.lengths("train")
    for index, (spoken, record) in enumerate(zip(small_corpus.split("train"), codes.split("train"), strict=True)):
        assert [record[name] for name in ("id", "text", "voice", "rate_wpm")] == [
            spoken[name] for name in ("id", "text", "voice", "rate_wpm")
        ]
        np.testing.assert_array_equal(record["codes"], encode([spoken["audio"]])[0])
        assert record["codes"].dtype == np.uint16
        np.testing.assert_array_equal(record["words"]["end_s"], spoken["words"]["end_s"])
        assert (num_chars[index], num_frames[index]) == (len(record["text"]), len(record["codes"]))
    codes.verify()


def test_an_interrupted_run_encodes_only_the_shards_that_are_missing(small_corpus, tmp_path):
    encoded = []

    def failing(audios):
        if len(encoded) == 20:
            raise RuntimeError("out of memory")
        encoded.extend(audios)
        return encode(audios)

    options = {"codec": "a", "batch_size": 5, "records_per_shard": 10}
    with pytest.raises(RuntimeError, match="out of memory"):
        write_codes(small_corpus, tmp_path / "codes", failing, **options)
    assert not (tmp_path / "codes").exists()
    resumed = []
    codes = write_codes(
        small_corpus, tmp_path / "codes", lambda audios: resumed.extend(audios) or encode(audios), **options
    )
    assert len(resumed) == 31 - 20
    whole = write_codes(small_corpus, tmp_path / "whole", encode, **options)
    for ours, theirs in zip(codes.split("train"), whole.split("train"), strict=True):
        np.testing.assert_array_equal(ours["codes"], theirs["codes"])


def test_the_codes_of_another_codec_are_an_error(small_corpus, tmp_path):
    write_codes(small_corpus, tmp_path / "codes", encode, codec="a", splits=("test",))
    with pytest.raises(ValueError, match="built with codec = 'a', not 'b'"):
        write_codes(small_corpus, tmp_path / "codes", encode, codec="b", splits=("test",))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda audios: encode(audios)[1:], "arrays of codes for"),
        (lambda audios: [codes.astype(np.int32) for codes in encode(audios)], "accepted is uint16"),
        (lambda audios: [codes[:, 0] for codes in encode(audios)], r"accepted is uint16 \[frames, codebooks\]"),
    ],
)
def test_an_encoder_that_gives_something_else_is_an_error(small_corpus, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        write_codes(small_corpus, tmp_path / "codes", wrong, codec="a", splits=("test",))
    assert not (tmp_path / "codes").exists()


def test_a_directory_of_something_else_is_an_error(small_corpus, tmp_path):
    with pytest.raises(ValueError, match="No such file or directory; accepted is a complete dataset"):
        open_codes(tmp_path)
    with pytest.raises(ValueError, match="accepted is a directory of speech_codes"):
        open_codes(small_corpus.directory)
    codes = write_codes(small_corpus, tmp_path / "codes", encode, codec="a", splits=("test",))
    with pytest.raises(ValueError, match="accepted is a directory of speech_corpus"):
        open_corpus(codes.directory)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*Not a directory"):
        write_codes(small_corpus, tmp_path / "file", encode, codec="a", splits=("test",))
