# shellcheck shell=sh
# Sourced by install.sh where offline/wheels is, as in a bundle made with WHEELS=yes: packages, and Python where that is
# among them, come from there and from nowhere else. The locks' hashes are compared as always; this only names the file.
export PIP_NO_INDEX=1 PIP_FIND_LINKS=offline/wheels UV_OFFLINE=1 UV_FIND_LINKS=offline/wheels
export UV_PYTHON_CACHE_DIR="$PWD/offline/python"
sums() { if command -v sha256sum >/dev/null; then LC_ALL=C sha256sum "$@"; else shasum --algorithm 256 "$@"; fi; }
if ! said=$(cd offline && sums --check SHA256SUMS 2>/dev/null); then
    bad=$(echo "$said" | sed -n '/: OK$/!{s/: [A-Z].*//p;q;}')
    fail "offline/${bad:-SHA256SUMS} is missing, or not as it was packed: unpack the bundle again, or remove the folder" \
        "offline/wheels to fetch the packages over the network."
fi
brought=$(sed -n 's/^locks=//p' offline/choices 2>/dev/null) || true
# shellcheck disable=SC2154 # of install.sh
for extra in $wanted; do
    case " ${brought:-$extra} " in *" $extra "*) ;; *) fail "the folder offline/ of this bundle has no packages for" \
        "'$extra': remove offline/wheels to fetch them over the network." ;; esac
done
