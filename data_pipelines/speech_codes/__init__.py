"""The codes a codec gives for the speech of a corpus, with its texts and word times."""
