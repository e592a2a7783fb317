"""Model folders: reading a base model tensor by tensor, writing a quantized one, and loading either.

Everything here needs torch; the host process never imports it. A new checkpoint format is one module that fulfils
`interface.Format`, and one line in `formats.FORMATS`.
"""
