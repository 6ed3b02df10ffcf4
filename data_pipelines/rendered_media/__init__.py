"""Questions about rendered pictures and spoken-over videos: `python -m data_pipelines.rendered_media --out=D`."""
