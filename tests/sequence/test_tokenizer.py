"""The corpus BPE."""

import pytest

from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.prompt import encode_prompt, prompt_tokens, rate_bucket

TEXTS = ["alpha bravo charlie", "bravo x-ray alpha", "delta delta echo"] * 5


def tokenizer(vocab_size: int = 300) -> TextTokenizer:
    return TextTokenizer.train(TEXTS, vocab_size, prompt_tokens(["en-us+klatt6"]))


def test_text_goes_round_in_any_script():
    bpe = tokenizer()
    for text in (*TEXTS, "日本語 und Straße", "naïve 12:30"):
        ids = bpe.encode(text)
        assert ids[-1] == bpe.end_of_text
        assert bpe.decode(ids) == text


def test_frequent_words_become_single_tokens():
    assert len(tokenizer().encode("delta alpha")) == 3


def test_offsets_point_at_the_first_letter_of_each_token():
    bpe = tokenizer()
    ids, starts = bpe.encode_with_offsets("delta x-ray alpha")
    assert starts[0] == 0
    assert starts[-2] == len("delta x-ray ")
    assert starts[-1] == len("delta x-ray alpha")
    assert len(ids) == len(starts)


def test_saved_and_loaded_gives_the_same_ids(tmp_path):
    bpe = tokenizer()
    bpe.save(tmp_path / "t.json")
    loaded = TextTokenizer.load(tmp_path / "t.json")
    assert loaded.encode("bravo echo").tolist() == bpe.encode("bravo echo").tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="vocab_size = 200"):
        tokenizer(200)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json"):
        TextTokenizer.load(tmp_path / "broken.json")
    with pytest.raises(ValueError, match="klatt9"):
        encode_prompt(tokenizer(), "en-us+klatt9", 120)


def test_prompts_hold_voice_and_rate():
    bpe = tokenizer()
    known, unknown = encode_prompt(bpe, "en-us+klatt6", 120), encode_prompt(bpe, None, 240)
    assert known.tolist() == [bpe.special("<|voice:en-us+klatt6|>"), bpe.special("<|rate:0|>")]
    assert unknown.tolist() == [bpe.special("<|voice|>"), bpe.special("<|rate:3|>")]
    assert [rate_bucket(r) for r in (90, 149, 150, 200, 230, 400)] == [0, 0, 1, 2, 3, 3]
