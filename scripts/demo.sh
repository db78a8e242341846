#!/bin/sh
# Runs the examples, after installing what they need. Compiled programs are kept in .venv.
extras='estimators'
. "$(dirname -- "$0")/environment.sh"
: "${JAX_COMPILATION_CACHE_DIR:=$PWD/.venv/compiled}"
: "${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:=0}"
export JAX_COMPILATION_CACHE_DIR JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS
"$python" examples/sort_fruit.py
exec "$python" examples/read_digits.py
