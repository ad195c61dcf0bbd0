"""What computes an answer. Knows no Gradio, no persona and no files of ours."""
