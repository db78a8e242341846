"""Data larger than memory: rows that are read from files, some megabytes at a time.

- `stream`: `Stream`, a number of rows and a function that reads some of them
- `numpy_files`, `parquet`: streams of rows in files
- `batch_stream`: `BatchStream`, batches from an iterator whose position can be saved
- `reading`: what was read, converted and checked, in a block
- `layout`: how rows are cut into pieces, and pieces are put together into blocks
- `ahead`: a thread that reads one block ahead
- `feeds`: the blocks of every epoch of a run
"""
