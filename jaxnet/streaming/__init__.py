"""Data larger than memory: rows that are read from files, some megabytes at a time.

- `stream`: `Stream`, a number of rows and a function that reads some of them
- `numpy_files`, `parquet`: streams of rows in files
- `batch_stream`: `BatchStream`, batches from an iterator whose position can be saved
- `reading`: what was read, converted and checked, in a block
- `targets`: when the targets of a block have to be checked
- `layout`: how rows are cut into pieces, and pieces are put together into blocks
- `ahead`: a thread that reads one block ahead
- `blocks`: the blocks of a stream in the order of its rows, for evaluation
- `feeds`: the blocks of every epoch of a run
"""
