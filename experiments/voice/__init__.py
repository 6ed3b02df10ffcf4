"""A Talker with many voices: how it is trained to take one from a prompt, and how that is measured."""
