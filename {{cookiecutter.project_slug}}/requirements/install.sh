#!/bin/sh
# Installs exactly what the locks say into $VENV, and does nothing when that has been done.
#   ACCELERATOR  cpu or cuda    (default: as before; the first time, cuda where nvidia-smi finds a GPU)
#   INSTALLER    uv or pip      (default: uv)
#   EXTRAS       trackers (tensorboard, mlflow, wandb) and kinds of DVC remotes (s3, gs, azure) and ray, in any
#                combination, each with a lock of that name (default: as before)
set -eu
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 2; }

VENV=${VENV:-.venv}
INSTALLER=${INSTALLER:-uv}
version=$(cat .python-version)
remembered() { sed -n "s/^$1=//p" "$VENV/.choices" 2>/dev/null || true; }

[ -w . ] || fail "this folder is not writable for user $(id -u): run the command as its owner; for a container, write" \
    "HOST_UID and HOST_GID into .env (make up does)."
accelerator=${ACCELERATOR:-$(remembered accelerator)}
if [ -z "$accelerator" ]; then
    accelerator=cpu
    if nvidia-smi -L >/dev/null 2>&1; then accelerator=cuda; fi
fi
case $accelerator in cpu | cuda) ;; *) fail "ACCELERATOR is '$accelerator', but must be cpu or cuda." ;; esac
case $INSTALLER in uv | pip) ;; *) fail "INSTALLER is '$INSTALLER', but must be uv or pip." ;; esac
extras=${EXTRAS:-$(remembered extras)}

locks="requirements/main.txt requirements/torch-$accelerator.txt"
[ ! -e requirements/samebits.txt ] || locks="$locks requirements/samebits.txt" # gone after make eject
possible=
for lock in requirements/*.txt; do
    name=${lock##*/} && name=${name%.txt}
    case $name in main | build | uv | samebits | torch-*) ;; *) possible="$possible $name" ;; esac
done
for extra in $extras; do
    case "$possible " in *" $extra "*) ;; *) fail "EXTRAS has '$extra', but may hold any of:$possible." ;; esac
    locks="$locks requirements/$extra.txt"
done
# what is installed follows from these; where the folder was moved, the package has to be found anew
# shellcheck disable=SC2086 # $locks is several words
state="$(cat $locks pyproject.toml .python-version | cksum) $PWD"
[ "$state" != "$(cat "$VENV/.installed" 2>/dev/null)" ] || exit 0

before=$(cut -d ' ' -f 3- "$VENV/.installed" 2>/dev/null || true)
if [ -n "$before" ] && [ "$before" != "$PWD" ]; then
    echo "$VENV was made in $before, and would work on what lies there: it is installed anew for this folder."
fi
[ ! -e "$VENV" ] || [ -w "$VENV" ] || fail "$VENV is older than the locks and read-only: in a container, run docker compose build."
if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -c pass 2>/dev/null; then
    python=
    for candidate in "python$version" python3 python "$(uv python find "$version" 2>/dev/null || true)"; do
        [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ] || continue
        python=$candidate
        break
    done
    [ -n "$python" ] || fail "Python $version was not found: install it (for example with: uv python install $version)."
    "$python" -m venv --clear "$VENV" || fail "the environment $VENV could not be made: on Debian and Ubuntu, apt install python$version-venv."
fi
rm -f "$VENV/.installed"
echo "Installing the locked packages ($accelerator${extras:+, }$extras) into $VENV with $INSTALLER."

if [ "$INSTALLER" = uv ]; then
    uv=$(command -v uv || true)
    if [ -z "$uv" ]; then
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
        uv=$VENV/bin/uv
    fi
    [ "$accelerator" = cuda ] || . requirements/torch-source.sh
    # Packages that come as source are built with the locked setuptools: build isolation would fetch one without a hash.
    "$uv" pip install --quiet --python "$VENV/bin/python" --require-hashes -r requirements/build.txt
    # shellcheck disable=SC2086 # bytecode: without it, every start would take seconds longer
    "$uv" pip sync --python "$VENV/bin/python" --require-hashes --no-build-isolation --compile-bytecode --reinstall-package samebits $locks
else
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
    # pip leaves what is there already: another wheel of the same version, and the library of before make eject
    "$VENV/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes samebits 2>/dev/null
    # shellcheck disable=SC2046,SC2086
    "$VENV/bin/python" -m pip install --disable-pip-version-check --require-hashes --no-deps --no-build-isolation $(printf -- '-r %s ' $locks) ||
        fail "pip could not install the locks, as it says above. If it misses torch: PyTorch's CPU build is not among the packages" \
            "that it finds by itself, so set PIP_FIND_LINKS=<folder with the wheel> or PIP_EXTRA_INDEX_URL=<the CPU index that" \
            "pytorch.org names>, or use uv."
fi
if [ -d src ]; then # not so while a container image is built: there the project is mounted later
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
fi
if [ -d .git ] && [ "$VENV" = .venv ]; then # the hooks in .pre-commit-config.yaml run from there
    "$VENV/bin/python" -m pre_commit install >/dev/null || echo "The checks before each commit were not installed (pre-commit)."
fi
printf 'accelerator=%s\nextras=%s\n' "$accelerator" "$extras" >"$VENV/.choices"
echo "$state" >"$VENV/.installed"
