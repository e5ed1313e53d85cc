"""`make` empties no directory that lies elsewhere."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = {
    ".venv": ".venv/installed",
    ".venv-tensorflow": ".venv-tensorflow/installed",
    ".venv-olive": ".venv-olive/installed",
    ".venv-optimum": ".venv-optimum/installed",
    ".venv-llama": ".venv-llama/installed",
    ".venv-clients": ".venv-clients/tflite/installed",
    ".venv-clients/mediapipe": ".venv-clients/mediapipe/installed",
    ".venv-clients/node": ".venv-clients/node/installed",
}


@pytest.mark.parametrize("place", PLACES)
def test_an_environment_that_is_a_link_is_refused_and_what_it_points_at_kept(tmp_path, place):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for path in ROOT.glob("constraints*.txt"):
        (tmp_path / path.name).touch()  # nothing to install
    for name in ("package.json", "package-lock.json"):
        (tmp_path / "stages/asking/javascript").mkdir(parents=True, exist_ok=True)
        (tmp_path / "stages/asking/javascript" / name).write_text("{}", encoding="utf-8")
    theirs = tmp_path / "theirs"
    (theirs / "node_modules").mkdir(parents=True)
    (theirs / "kept").touch()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(theirs)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(["make", PLACES[place]], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert f"error: '{place}' is a link to '{theirs}', which would be emptied; next: remove the link" in done.stderr
    assert sorted(path.name for path in theirs.iterdir()) == ["kept", "node_modules"]


def test_every_environment_that_make_empties_is_asked_about_first():
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8").split("\n\n")
    emptied = [recipe for recipe in recipes if "venv --clear" in recipe or "npm ci" in recipe]
    assert len(emptied) == 8
    assert [recipe for recipe in emptied if "$(call own," not in recipe] == []


def test_git_ignores_build_products_that_are_links_too(tmp_path):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for name in (".venv", ".venv-clients", "build", "mlruns", "sweeps"):
        (tmp_path / name).symlink_to(ROOT)
    shown = subprocess.run(["git", "status", "--short"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout == "?? .gitignore\n"
