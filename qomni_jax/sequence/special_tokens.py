"""Names of the special tokens of Qwen3.5's and Qwen3-Omni's tokenizers; one that is trained here has them too."""

PADDING = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"
AUDIO_START = "<|audio_start|>"
AUDIO_END = "<|audio_end|>"
AUDIO_PAD = "<|audio_pad|>"
TOOL_CALL = "<tool_call>"
TOOL_CALL_END = "</tool_call>"
TOOL_RESPONSE = "<tool_response>"
TOOL_RESPONSE_END = "</tool_response>"
THINK = "<think>"
THINK_END = "</think>"
TTS_PAD = "<tts_pad>"
TTS_BEGIN = "<tts_text_bos>"
TTS_END = "<tts_text_eod>"

# Tokens that decoded text shows, because what a model writes between them has a meaning. Thoughts are the
# release's own: a tokenizer that is trained here has no tokens for them.
TAGS = (TOOL_CALL, TOOL_CALL_END, TOOL_RESPONSE, TOOL_RESPONSE_END)
SHOWN = (*TAGS, THINK, THINK_END)
SPECIAL_TOKENS = (
    PADDING,
    IM_START,
    IM_END,
    VISION_START,
    VISION_END,
    IMAGE_PAD,
    VIDEO_PAD,
    *TAGS,
    AUDIO_START,
    AUDIO_END,
    TTS_PAD,
    TTS_BEGIN,
    TTS_END,
    AUDIO_PAD,
)
