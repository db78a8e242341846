#!/bin/sh
# Checks style and types, then runs the tests, doctests and examples; arguments go to pytest.
extras='estimators plots ranking test'
. "$(dirname -- "$0")/environment.sh"
"$python" -m ruff check
"$python" -m ruff format --check
"$python" -m mypy
exec "$python" -m pytest -n 2 "$@"
