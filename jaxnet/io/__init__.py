"""Input and output: trees of arrays in files, and networks for other programs.

- `leaves`: leaves of a tree as NumPy arrays, and back
- `tree_spec`: the containers, names, dtypes and shapes of a tree, as JSON
- `file_format`: the format of a file, its checksum and its validation
- `environment`: the versions, devices and settings of JAX that change numbers
- `serialization`: `save`, `load` and `load_metadata`
- `export`: a network as a StableHLO program, which runs without jaxnet
- `pytorch`: parameters as a PyTorch state dict, and back
"""
