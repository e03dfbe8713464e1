"""Two files are all there is; `.venv-torch/bin/python examples/onnx_files/export.py` writes them.
"""
latents = (100, 1, 1)
generator, discriminator = "generator.onnx", "discriminator.onnx"
