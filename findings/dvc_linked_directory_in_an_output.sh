#!/usr/bin/env bash
# A stage's output directory may hold a symbolic link. DVC 3.67.1 follows one to a file: its content goes into the cache.
# One to a directory it passes over in silence: the output's digest does not change with what lies behind it, and a checkout
# brings the output back without it. The stage succeeded, and half of what it made is gone.
# Seen on Linux x86_64, Python 3.11, 2026-11-30: of kept.txt, linked.txt and linked/inside.txt the first two come back.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$place/venv/bin:$PATH" DVC_NO_ANALYTICS=1
mkdir "$place/project" "$place/elsewhere"
cd "$place/project"
{
  echo inside > ../elsewhere/inside.txt
  git init --quiet && dvc init --quiet
  cat > dvc.yaml <<'YAML'
stages:
  make:
    cmd: mkdir -p out && echo kept > out/kept.txt && ln -s ../../elsewhere/inside.txt out/linked.txt && ln -s ../../elsewhere out/linked
    outs: [out]
YAML
  dvc repro --quiet
} > /dev/null 2>&1
{
  echo "made: $(cd out && find -L . -type f | sort | tr '\n' ' ')"
  grep nfiles dvc.lock | tr -d ' '
  rm -r out && dvc checkout --quiet
  echo "checked out: $(cd out && find -L . -type f | sort | tr '\n' ' ')"
} > ../seen
diff - ../seen <<'EXPECTED'
made: ./kept.txt ./linked.txt ./linked/inside.txt 
nfiles:2
checked out: ./kept.txt ./linked.txt 
EXPECTED
cat ../seen
