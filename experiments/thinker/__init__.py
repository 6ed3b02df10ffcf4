"""The stages of the Thinker: its data, its training, what it hears."""
