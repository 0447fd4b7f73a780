"""From text to token shards, and from shards to batches.

pipeline        raw pages and texts through the stages of a recipe: shard_work is one shard, stages/ and engines/ are
                chosen by name, sources, readers, warc, http and unpack read what is there, table and tally write
read, corpus    what to read: files of the user's, or the standard library of the running Python
split           which documents are held out
tokenizer       byte-level BPE: trained, saved, loaded
shards          the folder on disk: raw tokens, document ends, one header
tokenization    text -> shards, the arrow as one function
loader          shards -> batches, a pure function of (seed, step, rank, world)
"""
