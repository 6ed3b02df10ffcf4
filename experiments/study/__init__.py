"""The parts of the ARIA study: materials, Talkers, speech, judgement."""
