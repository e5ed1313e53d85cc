"""A child that misbehaves is stopped, named and knows nothing."""

import pytest

from stages.models import confined


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("", None),
        ("import time\nwhile time.process_time() < 5: pass", "takes more than 1 s of CPU"),
        ("bytearray(300 << 20)", "takes more than 268435456 bytes of memory"),
        ("raise ValueError('broken at byte 7')", "ValueError: broken at byte 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "died of SIGTERM"),
        ("import sys; sys.exit('it makes 9 tokens')", "it makes 9 tokens"),
    ],
)
def test_the_end_of_a_child_is_put_in_words(tmp_path, program, said):
    (tmp_path / "script.py").write_text(program, encoding="utf-8")
    found = confined.run(tmp_path / "script.py", memory_bytes=256 << 20, cpu_seconds=1)
    assert found is None if said is None else said in found


def test_a_child_sees_its_arguments_and_nothing_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TOKEN", "hunter2-planted-token")
    program = "import os, sys; sys.exit(f'{sys.argv[1:]} {sorted(os.environ)}')"
    (tmp_path / "script.py").write_text(program, encoding="utf-8")
    found = confined.run(tmp_path / "script.py", "one", memory_bytes=512 << 20, cpu_seconds=9)
    assert found.startswith("['one'] ")
    assert "FAKE_TOKEN" not in found
