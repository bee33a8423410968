#!/bin/sh
# Installs exactly what the locks say into $VENV, and does nothing when that has been done: what trainings need, and in
# addition what was asked for, which stays. An addition that cannot be had leaves the rest as it is.
#   ACCELERATOR  cpu or cuda    (default: as before; the first time, cuda where nvidia-smi finds a GPU)
#   INSTALLER    uv or pip      (default: uv)
#   EXTRAS       additions: trackers (tensorboard, mlflow, wandb), kinds of DVC remotes (s3, gs, azure), ray, serve, and dev for
#                reports, notebooks, tests and style, in any combination, each with a lock of that name
#   NEEDS        likewise, as make says it for a command
set -eu
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 2; }

VENV=${VENV:-.venv}
INSTALLER=${INSTALLER:-uv}
version=$(cat .python-version)
remembered() { # by the environment; where there is none, by the bundle that brings packages
    for choices in "$VENV/.choices" offline/choices; do [ ! -e "$choices" ] || break; done
    sed -n "s/^$1=//p" "$choices" 2>/dev/null || true
}

[ -w . ] || fail "this folder is not writable for user $(id -u): run the command as its owner, as make up and" \
    "docker compose do by themselves, and in a container that runs: docker compose exec lab as-owner <command>."
accelerator=${ACCELERATOR:-$(remembered accelerator)}
if [ -z "$accelerator" ]; then
    accelerator=cpu
    if nvidia-smi -L >/dev/null 2>&1; then accelerator=cuda; fi
fi
case $accelerator in cpu | cuda) ;; *) fail "ACCELERATOR is '$accelerator', but must be cpu or cuda." ;; esac
case $INSTALLER in uv | pip) ;; *) fail "INSTALLER is '$INSTALLER', but must be uv or pip." ;; esac
extras= # those that trainings may use, and are looked at by every command
wanted=
for extra in $(remembered extras) ${EXTRAS:-} ${NEEDS:-}; do
    case " $wanted " in *" $extra "*) continue ;; esac
    wanted="$wanted $extra"
    case $extra in dev | serve) ;; *) extras="${extras:+$extras }$extra" ;; esac
done
locks="requirements/build.txt requirements/uv.txt requirements/main.txt requirements/torch-$accelerator.txt"
[ ! -e requirements/samebits.txt ] || locks="$locks requirements/samebits.txt" # gone after make eject
possible=
for lock in requirements/*.txt; do
    name=${lock##*/} && name=${name%.txt}
    case $name in main | build | uv | samebits | torch-*) ;; *) possible="$possible $name" ;; esac
done
missing= # additions that are not there, or not as their locks are today
for extra in $wanted; do
    case " $possible " in
        *" $extra "*) ;;
        *) case " ${EXTRAS:-} " in
            *" $extra "*) fail "EXTRAS has '$extra', but may hold any of:$possible." ;;
            *) fail "requirements/$extra.txt is missing: git checkout -- requirements/$extra.txt, or make lock." ;;
        esac ;;
    esac
    [ "$(cksum <"requirements/$extra.txt")" = "$(sed 1q "$VENV/.with-$extra" 2>/dev/null)" ] || missing="$missing $extra"
done
# what else is installed follows from these; where the folder was moved, the package has to be found anew
# shellcheck disable=SC2086 # $locks is several words
state="$(cat $locks pyproject.toml .python-version | cksum) $PWD"
noted=$(sed 1q "$VENV/.installed" 2>/dev/null || true)
[ "$state" != "$noted" ] || [ -n "$missing" ] || exit 0
[ ! -d offline/wheels ] || . requirements/offline.sh

before=${noted#* } && before=${before#* } # without the checksum and the number of bytes
if [ -n "$before" ] && [ "$before" != "$PWD" ]; then
    echo "$VENV was made in $before, and would work on what lies there: it is installed anew for this folder."
fi
[ ! -e "$VENV" ] || [ -w "$VENV" ] || fail "$VENV is older than the locks and read-only: in a container, run docker compose build."
# An installation that was cut off leaves folders that installers take for packages; none of it is used again.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
find_python() { # of the PATH, or one that uv knows of, or fetches
    for python in "${BASE_PYTHON:-}" "python$version" python3 python; do
        [ "$(version_of "$python")" != "$version" ] || return 0
    done
    for other in python3 python ""; do # by which the locked uv is installed, aside; without any, a uv of the PATH
        [ -z "$(version_of "$other")" ] || break
    done
    [ -n "$other" ] || command -v uv >/dev/null ||
        fail "Python $version was not found, nor another one by which to fetch it: install it."
    uv=uv
    aside=$(mktemp -d)
    if [ -n "$other" ] && "$other" -m venv "$aside" >&2 && "$aside/bin/python" -m pip install --quiet \
        --disable-pip-version-check --require-hashes -r requirements/uv.txt; then uv=$aside/bin/uv; fi
    if ! python=$("$uv" python find --system "$version" 2>/dev/null); then
        echo "Python $version was not found on this machine: uv fetches it."
        (unset UV_OFFLINE && "$uv" python install --no-bin "$version") && # offline.sh may not have one
            python=$("$uv" python find --system "$version") || python=
    fi
    rm -rf "$aside"
    [ "$(version_of "$python")" = "$version" ] || fail "Python $version was not found, and could not be fetched, as it" \
        "says above: install it, or name a mirror of uv's Pythons in UV_PYTHON_INSTALL_MIRROR; then run make setup again."
    export BASE_PYTHON="$python" # for the second half of this script
}
python=$VENV/bin/python
whole=
if [ -e "$VENV/.installed" ] && [ "$(version_of "$python")" = "$version" ]; then whole=yes; fi
[ -n "$whole" ] || find_python
# One at a time. The lock is on this file, is handed on to all that is started below, and goes with the last of them.
[ "${1:-}" = locked ] || exec "$python" -c 'import fcntl, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
script = sys.argv[1]
lock = os.open(script, os.O_RDWR if os.access(script, os.W_OK) else os.O_RDONLY)
os.set_inheritable(lock, True)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another make setup is at work in this folder: waiting for it.", flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks
os.execv("/bin/sh", ["sh", script, "locked"])' requirements/install.sh

case $accelerator in cpu) size=2 ;; *) size=9 ;; esac # GB, about
unfinished() { # $*: what failed
    for folder in "$VENV" . "${UV_CACHE_DIR:-${HOME:-/}}" "${TMPDIR:-/tmp}"; do
        free=$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }')
        [ "${free:-9999}" -ge $((size * 250)) ] || fail "$*: the disk of $folder has $free MB left, and the packages take about" \
            "$size GB: make room, then run make setup again."
    done
    fail "$*, as it says above: run make setup again when that is mended; what was fetched is not fetched again."
}
if [ -z "$whole" ]; then
    for mark in "$VENV"/.choices* "$VENV/pyvenv.cfg"; do [ ! -e "$mark" ] || break; done
    [ -e "$mark" ] || [ -z "$(ls -A "$VENV" 2>/dev/null)" ] || fail "VENV is '$VENV', which holds other things than an" \
        "environment: name a folder that is not there yet."
fi
{
    mkdir -p "$VENV" && printf 'accelerator=%s\nextras=%s\n' "$accelerator" "$extras" >"$VENV/.choices.new"
} || unfinished "the environment $VENV could not be made"

# What is installed: each package of the locks with its hashes, and the sha256 of the list of files that each one brought.
# .installed keeps it, and .with-* of each addition, for what installers do not look at: that the lock has other hashes of
# the version that is there. Their first lines say of which locks.
packages() { # of locks, a line each
    sed -e :a -e '/\\$/N; s/ *\\\n */ /; ta' "$@"
}
present() {
    "$VENV/bin/python" -c 'import hashlib, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("lib/python*/site-packages/*.dist-info/RECORD")):
    print(path.parent.name, hashlib.sha256(path.read_bytes()).hexdigest())' "$VENV"
}
names() { # of packages, in such lines
    sed -nE 's|^\./vendor/([^-]*)-.*|\1|p; s/^([A-Za-z0-9][^ =]*)==.*/\1/p; s/-[^-]*\.dist-info .*//p' | tr 'A-Z_.' 'a-z--' | sort -u
}
uninstall() { # and what a cut-off installation has left half, which installers would take for a package
    "$VENV/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes "$@" 2>/dev/null || true
    "$VENV/bin/python" -c 'import pathlib, re, shutil, sys
for path in pathlib.Path(sys.argv[1]).glob("lib/python*/site-packages/*.dist-info"):
    if re.sub(r"[_.]+", "-", path.name.partition("-")[0].lower()) in sys.argv[2:]:
        shutil.rmtree(path)' "$VENV" "$@"
}
install() { # what it is for, and locks
    failed="the packages of $1 could not be installed"
    shift
    if [ "$INSTALLER" = uv ]; then
        [ "$accelerator" = cuda ] || . requirements/torch-source.sh
        # shellcheck disable=SC2046
        "$VENV/bin/python" requirements/progress.py "$VENV/bin/uv" pip install --python "$VENV/bin/python" --require-hashes \
            --no-deps --no-build-isolation $compile $(printf -- '-r %s ' "$@") || unfinished "$failed"
    else
        # shellcheck disable=SC2046
        "$VENV/bin/python" requirements/progress.py "$VENV/bin/python" -m pip install --disable-pip-version-check \
            --require-hashes --no-deps --no-build-isolation $(printf -- '-r %s ' "$@") ||
            unfinished "$failed (if pip misses torch: PyTorch's CPU build is not among those that it finds by itself, so set" \
                "PIP_FIND_LINKS=<folder with the wheel> or PIP_EXTRA_INDEX_URL=<the CPU index that pytorch.org names>, or" \
                "use uv)"
    fi
}
note() { # the first line, and where to; the rest is read
    { (echo "$1" && cat) >"$2.new" && mv -f "$2.new" "$2"; } || unfinished "the environment $VENV is not complete"
}
[ -z "$whole" ] || cat "$VENV/.installed" "$VENV"/.with-* >"$VENV/.noted" 2>/dev/null || true

if [ -z "$whole" ] || [ "$state" != "$noted" ]; then
    linked= # whether the project can stay as it is installed: a training may be importing it
    if [ -n "$whole" ]; then
        [ "$before" != "$PWD" ] || [ -n "$(find pyproject.toml -newer "$VENV/.installed")" ] || linked=yes
        # shellcheck disable=SC2086
        changed=$({ packages $locks && present; } | grep -vxFf "$VENV/.noted" || true)
        case $changed in *.dist-info*) linked= ;; esac
        for mark in "$VENV"/.with-*; do
            added=requirements/${mark##*/.with-}.txt
            [ ! -e "$mark" ] || [ ! -e "$added" ] || added_locks="${added_locks:-} $added"
        done
        own=$(sed -n 's/^name = "\(.*\)"/\1/p' pyproject.toml | sed 1q | tr 'A-Z_.' 'a-z--')
        # shellcheck disable=SC2086
        kept=$(packages $locks ${added_locks:-} | names)
        strange=$(present | names | grep -vxFe "$kept" -e "$own" -e pip | tr '\n' ' ' || true)
        rm -f "$VENV/.installed"
        changed="$(echo "$changed" | names | grep -vxe pip | tr '\n' ' ' || true)$strange"
        # shellcheck disable=SC2086
        [ -z "$changed" ] || uninstall $changed
        [ -z "$strange" ] || echo "Removed, as no lock in use has it: $strange(to keep one, write it into pyproject.toml, then make lock)"
    else
        [ ! -e "$VENV/bin" ] || echo "$VENV is no whole environment of Python $version: it is made anew."
        find "$VENV/" -mindepth 1 -maxdepth 1 ! -name '.choices*' -exec rm -rf {} +
        missing=$wanted
        find_python # again: the PATH may lead into what has just been removed
        "$python" -m venv "$VENV" || unfinished "the environment $VENV could not be made (Debian and Ubuntu want:" \
            "apt install python$version-venv)"
    fi
    echo "Installing the locked packages ($accelerator) into $VENV with $INSTALLER."
    # The locked uv, which pip has checked, and not one of the PATH. Packages that come as source are built with the locked
    # setuptools, the project with the locked hatchling: build isolation would fetch them without a hash.
    tools="-r requirements/build.txt"
    [ "$INSTALLER" = pip ] || tools="$tools -r requirements/uv.txt"
    # shellcheck disable=SC2086
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes $tools ||
        unfinished "the installer could not be installed"
    compile=--compile-bytecode # without bytecode, the first start of a training would take seconds longer
    # shellcheck disable=SC2086
    install "the project" ${locks#requirements/build.txt requirements/uv.txt }
    if [ -d src ] && [ -z "$linked" ]; then # not so while a container image is built: there the project is mounted later
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable . ||
            unfinished "the project could not be installed into its environment"
    fi
    # shellcheck disable=SC2086
    { packages $locks && present; } | note "$state" "$VENV/.installed"
    cat "$VENV/.installed" "$VENV"/.with-* >"$VENV/.noted" 2>/dev/null || true
fi

if [ -n "$missing" ]; then
    echo "Adding the locked packages of$missing to $VENV with $INSTALLER."
    added=
    for extra in $missing; do added="$added requirements/$extra.txt"; done
    # shellcheck disable=SC2086
    changed=$(packages $added | grep -vxFf "$VENV/.noted" | names | tr '\n' ' ' || true)
    for extra in $missing; do rm -f "$VENV/.with-$extra"; done
    # shellcheck disable=SC2086
    [ -z "$changed" ] || uninstall $changed
    compile=
    [ -d src ] || compile=--compile-bytecode # in an image, where it cannot be kept later
    # shellcheck disable=SC2086
    install "${missing# }" $added
    for extra in $missing; do
        { packages "requirements/$extra.txt" && present | grep -vxFf "$VENV/.noted"; } |
            note "$(cksum <"requirements/$extra.txt")" "$VENV/.with-$extra"
    done
fi
rm -f "$VENV/.noted"
mv -f "$VENV/.choices.new" "$VENV/.choices"
case " $missing " in
    *" dev "*)
        if [ -d .git ] && [ "$VENV" = .venv ]; then # the hooks in .pre-commit-config.yaml run from there
            "$VENV/bin/python" -m pre_commit install >/dev/null ||
                echo "The checks before each commit were not installed (pre-commit)."
        fi
        ;;
esac
