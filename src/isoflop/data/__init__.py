"""From text to token shards, and from shards to batches.

read, corpus    what to read: files of the user's, or the standard library of the running Python
split           which documents are held out
tokenizer       byte-level BPE: trained, saved, loaded; patterns split, byte_pairs and merges are its engines
tokenizer_*     its training on disk, its file, what it makes of a text (domains, encoders); which vocabulary to take
shards          the folder on disk: raw tokens, document ends, one header
tokenization    text -> shards, the arrow as one function
sources         the folders that a recipe reads, opened together
turns, order    which source a sample is of, which window of it
mixture         shards -> batches, a pure function of (seed, batch, rank, world)
loader          the same of one text, and the windows of an evaluation
"""
