"""Where the shards of a pipeline are worked on: one file each, its name is what `--engine` takes.

An engine's file holds `run(work, tasks, *, workers)`, which calls the function on every task and yields (number of the
task, what came back) in whatever order they end. A task is a small value, its results are files: an engine may start
one again, on another process or machine that sees the same folder, and the bytes are the same.
"""
