"""quant_action: CI/CD for quantized language models."""

__version__ = "0.1.0"
