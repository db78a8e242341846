# For the other scripts to source: goes to the repository's root and sets `python` to an interpreter
# that has jaxnet with the `extras` they name, in .venv, which it makes when there is none.
#
# Files in .venv say what is installed; another, .venv/unfinished, that making it has not ended, so
# that what a failure, Ctrl-C or a power cut leaves half-made is made afresh the next time.

set -eu
unset PYTHONHOME PYTHONPATH PIP_PREFIX PIP_REQUIRE_HASHES PIP_TARGET PIP_USER

case ${PYTHON:=python3} in
/*) ;;
*/*) PYTHON=$PWD/$PYTHON ;;
esac
CDPATH='' cd -P -- "$(dirname -- "$0")/.."
python=.venv/bin/python
wanted=$({ pwd && cat pyproject.toml constraints.txt; } | cksum)

fail() {
    echo "$1" >&2
    exit 1
}

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

make() {
    rm -rf .venv
    mkdir .venv && touch .venv/unfinished && "$PYTHON" -m venv .venv
}

install() {
    PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
        "$python" -m pip install --quiet --no-input --disable-pip-version-check \
        --editable ".[$(echo "$extras" | tr ' ' ,)]" || return
    for extra in $extras; do
        echo "$wanted" >".venv/jaxnet-$extra" || return
    done
    rm -f .venv/unfinished
}

is_installed() {
    for extra in $extras; do
        [ "$(cat ".venv/jaxnet-$extra" 2>/dev/null)" = "$wanted" ] || return
    done
}

give_up() {
    if [ -e .venv/unfinished ]; then rm -rf .venv; fi
    reason=$(echo "$log" | sed -n 's/^ERROR: //p' | tail -n 1)
    reason=${reason:-$(echo "$log" | tail -n 1)}
    fail "jaxnet could not be installed into .venv: ${reason%.}; check the network and the free \
disk space, and try again."
}

if [ ! -e .venv ] || [ -e .venv/unfinished ]; then
    is_recent "$PYTHON" || fail "jaxnet needs Python 3.11 or newer, and '$PYTHON' is older, missing \
or broken: name another one with PYTHON=/path/to/python3."
    "$PYTHON" -c 'import ensurepip, venv' >/dev/null 2>&1 || fail "'$PYTHON' lacks the modules venv \
and ensurepip: install them (on Debian and Ubuntu python3-venv) or name another Python with PYTHON."
    echo "Making .venv and installing jaxnet with what it needs; this takes about a minute."
    log=$(make 2>&1 && install 2>&1) || give_up
fi
is_recent "$python" || fail "The Python in .venv is older than 3.11 or broken: remove that folder."
if ! is_installed; then
    echo "Installing what is new or missing into .venv."
    log=$(install 2>&1) || give_up
fi
