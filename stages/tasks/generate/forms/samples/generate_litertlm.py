"""Continue texts with a bundle's litert/model.litertlm: LiteRT-LM, which brings its own runtime.

pip install litert-lm
python samples/generate_litertlm.py "Once upon a time"
"""

import sys
from pathlib import Path

import litert_lm

FILE = Path(__file__).absolute().parent.parent / "litert" / "model.litertlm"


def main(texts: list[str]) -> None:
    """Print each text as it grows, the likeliest token each time: as golden.json has it."""
    likeliest = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
    # Without a cache of packed weights, which would lie in the bundle and be none of it.
    with litert_lm.Engine(str(FILE), backend=litert_lm.Backend.CPU(), cache_dir=":nocache") as engine:
        # Some tokenizers put a space before every text: where nothing was typed it is none of what is written.
        spaced = engine.detokenize(engine.tokenize("a")).startswith(" ")
        for text in texts:
            print(text, end="")
            begins = spaced and not text
            with engine.create_session(apply_prompt_template=False, sampler_config=likeliest) as session:
                session.run_prefill([text])
                for piece in session.run_decode_async():
                    said = "".join(piece.texts)
                    print(said.removeprefix(" ") if begins else said, end="", flush=True)
                    begins = False
            print()


if __name__ == "__main__":
    main(sys.argv[1:])
