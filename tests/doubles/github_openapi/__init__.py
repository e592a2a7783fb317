"""GitHub's description of the operations that quant_action uses: `operations.json`, cut out by `make.py`; its licence is beside it."""
