"""Small things of every kind that tests work on, built in the test; a test takes what it needs from here.

| module | what it makes |
|---|---|
| `classifiers` | a random encoder of any family, its word tokenizer, a directory, texts of four intents, a data set |
| `decoders` | random language models of every shape, and what they answer |
| `language_build` | texts, a LLaMA and its tokenizer, and the outputs of all stages down to an artifact |
| `tokenizers` | byte-level BPE and unigrams, learned from a few sentences |
| `graphs` | ONNX graphs of three operators that answer as a classifier does |
| `bundle` | a checkpoint's files and its ONNX artifact, small enough to write in every test |
| `asked_build`, `audited_build`, `report_build`, `tracked_build` | finished builds: clients, audit, page, MLflow |
| `measurements` | what parity and benchmark say of one sound artifact |
| `gguf_files`, `mil` | GGUF files and Core ML programs, written number by number |
| `interruptions` | a training that stops before a step, and the steps of one that goes on |
| `pipeline.py`, `pipeline.yaml` | a pipeline whose stages take milliseconds |
| `ernie.py`, `tasks/tag` | a family and a task that are no part of the project, to be put beside those of `stages/` |

What one test file alone needs stays in it, and what only breaks things (`tests/models/hostile.py`,
`tests/targets/faults_*.py`) is no toy. `tests/conftest.py` hands the ones that most tests use out as fixtures.
"""
