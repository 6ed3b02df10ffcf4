"""Synthetic speech with exact word and phoneme times: `python -m data_pipelines.speech_corpus --data_dir=D`."""
