"""Tools that any numerical library needs; they know nothing about networks.

Values and errors:

- `dtypes`: what kind of values an array holds
- `checks`: checks of arguments, and `door`, which names the caller in error messages
- `finite`: whether values are finite, and which are not
- `arrays`: conversion of lists, NumPy and pandas to checked arrays
- `trees`: trees of arrays: names of leaves, differences, checks
- `sharding`: the division of a batch among several devices

Identity of functions (see `DESIGN.md`):

- `tracing`: traces of functions as they are now
- `settled`: functions that cannot have changed
- `programs`: the identity of a traced program, its fingerprint
- `compilation`: reuse of compiled programs
- `outlines`: what a function was built from, in words

Files and reports:

- `tables`: text tables
- `atomic`: files that are written whole or not at all
- `console`: progress bar, Ctrl-C and SIGTERM
"""
