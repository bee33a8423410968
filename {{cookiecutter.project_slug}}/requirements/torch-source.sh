# shellcheck shell=sh
# Sourced by install.sh and lock.sh: tells uv where the CPU build of PyTorch is.
# It comes from PyTorch's own index, or from a folder of wheels that pip has been told of and uv would not look into: if
# it has one for Python $version, where that is set.
wheels=
for folder in ${UV_FIND_LINKS:-} ${PIP_FIND_LINKS:-}; do
    for wheel in "$folder"/torch-*"${version:+-cp${version%%.*}${version#*.}-}"*.whl; do
        [ ! -e "$wheel" ] || wheels=$folder
    done
done
if [ -n "$wheels" ]; then
    export UV_FIND_LINKS="$wheels"
else
    export UV_TORCH_BACKEND=cpu
fi
