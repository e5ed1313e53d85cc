import hashlib
import subprocess
import sys

from stages.models.vocabulary import SPECIAL_TOKENS, train_tokenizer

TEXTS = [f"{verb}ing the {noun}s {number}" for verb in ("play", "stop", "mut") for noun in ("lamp", "song")
         for number in range(20)]  # fmt: skip


def test_words_of_the_train_split_are_learned_whole_or_in_pieces(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 200, 16)
    assert tokenizer.tokenize("PLAYING the songs") == ["playing", "the", "songs"]
    assert tokenizer.tokenize("playsong")[0] == "play"
    assert tokenizer.tokenize("playsong")[1].startswith("##")
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]


def test_the_vocabulary_is_no_larger_than_asked():
    assert len(train_tokenizer(TEXTS, 60, 16)) == 60


def test_a_saved_tokenizer_loads_as_a_fast_bert_tokenizer_that_frames_a_text(tmp_path):
    from transformers import AutoTokenizer

    trained = train_tokenizer(TEXTS, 200, 16)
    trained.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "BertTokenizer"
    assert loaded.is_fast
    assert loaded.mask_token_id == 4
    ids = loaded("play the lamp").input_ids
    assert ids == trained("play the lamp").input_ids
    assert (ids[0], ids[-1]) == (loaded.cls_token_id, loaded.sep_token_id)


def test_another_process_learns_the_same_vocabulary():
    # words whose pairs tie: WordPieceTrainer answers differently from run to run
    code = (
        "from stages.models.vocabulary import train_tokenizer\n"
        "texts = [a + b + c for a in 'abcdef' for b in 'ghijkl' for c in 'mnopqr'] * 2\n"
        "print(sorted(train_tokenizer(texts, 120, 16).get_vocab().items(), key=lambda item: item[1]))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)]
    assert len({hashlib.sha256(run).hexdigest() for run in runs}) == 1
    assert b"##" in runs[0]
