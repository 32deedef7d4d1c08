"""TensorRT and TensorRT-RTX engines: options, memory, a guarded child process, what it tells.

options    what a build may be told
profiles   the shapes it is built for, a linter for them, buckets
cache      the timing cache, kept between builds
memory     what a build needs and what the machine has
child      the program of the child process, the one place that touches the library
progress   what the library's progress monitor tells
watch      the child process and the thread that watches it
log        the builder's log, read while it is written
inspector  the library's list of an engine's layers
diagnosis  why a build failed, in one sentence
ladder     what is tried next where memory ran out
build      all of it together
"""
