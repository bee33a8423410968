#!/bin/sh
# Pins what pyproject.toml asks for, with the hash of every file, for every system and every Python that it allows, and
# without the address of any index.
# What is pinned already stays as it is, as far as pyproject.toml allows.
#   UPGRADE  1: the newest versions of all packages; or names of those to upgrade
# PyTorch, and what only one of its builds needs, has locks of its own: for CPUs, for NVIDIA GPUs.
set -eu
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
oldest=$(sed -n 's/^requires-python = "[=>~ ]*\([0-9]*\.[0-9]*\).*/\1/p' pyproject.toml)
oldest=${oldest:-$(cat .python-version)}
torch=$(sed -n 's/^ *"torch==\([0-9.]*\)",$/\1/p' pyproject.toml)
uv=$VENV/bin/uv # the locked one
if [ ! -e "$uv" ]; then
    sh requirements/install.sh
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
fi
. requirements/torch-source.sh
# shellcheck disable=SC2086 # $UPGRADE is several words
case ${UPGRADE:-0} in
    0) upgrade= ;;
    1) upgrade=--upgrade ;;
    *) upgrade=$(printf -- '--upgrade-package %s ' $UPGRADE) ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # compile LOCK ARGUMENTS...: writes the lock when all went well
    lock=$1
    shift
    [ ! -e "requirements/$lock" ] || cp "requirements/$lock" "$work/$lock" # uv keeps the pins of the file that it writes
    # shellcheck disable=SC2086 # $upgrade is several words
    "$uv" pip compile --quiet --universal --python-version "$oldest" --generate-hashes --no-header --no-annotate \
        $upgrade "$@" --output-file "$work/$lock" >/dev/null
    echo "requirements/$lock: $(grep -c == "$work/$lock") packages"
}

echo "torch==$torch+cpu" >"$work/override"
# the library: what it needs stands in its wheel, which has a lock of its own; after make eject there is none
for wheel in vendor/samebits-*.whl; do
    [ ! -e "$wheel" ] || echo "samebits @ ./$wheel"
done >"$work/library"
printf '%s!=2.6.2,!=2.6.3\n' lightning pytorch-lightning >"$work/malicious"
sed 's| @ {root:uri}[^"]*||' pyproject.toml >"$work/pyproject.toml" # which uv would have to build a package to read
project="$work/pyproject.toml --no-sources -c $work/malicious -c $work/library --override $work/override
    --no-emit-package torch --no-emit-package samebits"
# shellcheck disable=SC2086
{
    compile main.txt $project
    # what main.txt holds need not stand in the others
    rest="-c $work/main.txt $(sed -nE 's/^([a-z0-9._-]+)==.*/--no-emit-package \1/p' "$work/main.txt")"
    compile dev.txt $project --group "$work/pyproject.toml:dev" $rest
    rest="$rest -c $work/dev.txt" # some of which an extra needs without the rest
    printf "torch==%s+cpu ; sys_platform == 'linux'\ntorch==%s ; sys_platform != 'linux'\n" "$torch" "$torch" |
        (upgrade= && compile torch-cpu.txt - $rest) # a folder of wheels has not all of them: hashes stay with the version
    (unset UV_FIND_LINKS UV_TORCH_BACKEND && echo "torch==$torch" | compile torch-cuda.txt - $rest)
    for extra in serve tensorboard mlflow wandb s3 gs azure ray; do
        compile $extra.txt $project --extra $extra $rest
    done
    printf 'hatchling\nsetuptools\n' | compile build.txt - -c "$work/main.txt" -c "$work/dev.txt"
    echo uv | compile uv.txt -
}
mv "$work"/*.txt requirements/

# The base of the container, by digest; like a package, it stays what it is until it is to be upgraded
base=$(sed -n 's/^ARG BASE_IMAGE=\([^@ ]*\).*/\1/p' Dockerfile)
if [ "${UPGRADE:-0}" != 1 ] && grep -q '^ARG BASE_IMAGE=.*@sha256:' Dockerfile; then exit 0; fi
digest=$(docker buildx imagetools inspect "$base" 2>/dev/null | sed -n 's/^Digest: *\(sha256:[0-9a-f]\{64\}\)$/\1/p')
if [ -n "$digest" ]; then
    for file in Dockerfile .binder/Dockerfile compose.yaml apptainer.def; do
        [ ! -e "$file" ] || sed "s|$base\(@sha256:[0-9a-f]*\)\{0,1\}|$base@$digest|" "$file" >"$work/file"
        [ ! -e "$file" ] || cat "$work/file" >"$file"
    done
    echo "$base: $digest"
else
    echo "$base is not pinned by digest: Docker is not here, or cannot ask where the image comes from"
fi
