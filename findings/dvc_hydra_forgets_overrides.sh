#!/usr/bin/env bash
# With `hydra.enabled` DVC 3.67.1 composes conf/ into params.yaml at each `dvc exp run`. What stood there is not asked for:
# an override given to the run before, or a value that somebody wrote into params.yaml (which is what `dvc repro` reads),
# is back at conf/'s default after the next experiment, and nothing is said.
# Seen on Linux x86_64, Python 3.11, 2026-11-30 (hydra-core 1.3.8): seed 7 by -S, 1 after the next run; size 9 by hand, 2 after it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1 hydra-core==1.3.8
export PATH="$place/venv/bin:$PATH" DVC_NO_ANALYTICS=1
mkdir -p "$place/project/conf"
cd "$place/project"
{
  git init --quiet && git config user.name nobody && git config user.email nobody@localhost && dvc init --quiet
  dvc config hydra.enabled True
  printf 'seed: 1\nsize: 2\n' | tee conf/config.yaml > params.yaml
  printf 'stages:\n  show:\n    cmd: cat params.yaml > out.txt\n    params: [seed, size]\n    outs: [out.txt]\n' > dvc.yaml
  git add --all && git commit --quiet --message start
} > /dev/null 2>&1
show() { echo "$1: $(tr '\n' ' ' < params.yaml)"; }
{
  dvc exp run --quiet -S seed=7 > /dev/null 2>&1 && show "exp run -S seed=7"
  dvc exp run --quiet > /dev/null 2>&1 && show "exp run"
  sed -i 's/size: 2/size: 9/' params.yaml && show "by hand"
  dvc exp run --quiet > /dev/null 2>&1 && show "exp run"
} > ../seen
diff - ../seen <<'EXPECTED'
exp run -S seed=7: seed: 7 size: 2 
exp run: seed: 1 size: 2 
by hand: seed: 1 size: 9 
exp run: seed: 1 size: 2 
EXPECTED
cat ../seen
