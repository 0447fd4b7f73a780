"""From text to token shards, and from shards to batches.

pipeline        raw pages and texts through the stages of a recipe: stage_tasks is what there is to do, shard_work does
                one shard, stages/ and engines/ are chosen by name, source_files, readers, warc, http and unpack read
                what is there, table and tally write
phases          the same on many machines, none of which waits for another; slurm writes the script that starts them
extract         the main text of a page; page says what a page may be before it is parsed
pii, filters    personal data and heuristics, a kind or a filter a file; language, word_list
read, corpus    what to read: files of the user's, or the standard library of the running Python
split           which documents are held out
tokenizer       byte-level BPE: trained, saved, loaded; patterns split, byte_pairs and merges are its engines
tokenizer_*     its training on disk, its file, what it makes of a text (domains, encoders); which vocabulary to take
shards          the folder on disk: raw tokens, document ends, one header; shard_writer writes them
tokenization    text -> shards, the arrow as one function; folder_lock keeps two writers apart
shingles        text -> hashes of its words and of runs of words
dedup           exact repeats; dedup_minhash near ones; dedup_tables, dedup_clusters what both are found with
quality         a calibrated classifier of pages, trained from folders; quality_report how far to trust it
contamination   evaluation items against an index of our own text; evaluation_items the other way round
sources         the folders that a recipe reads, opened together
turns, order    which source a sample is of, which window of it
mixture         shards -> batches, a pure function of (seed, batch, rank, world)
loader          the same of one text, and the windows of an evaluation
"""
