"""Conversations with their media in shards: `python -m data_pipelines.conversation_shards --source=F --out=D`."""
