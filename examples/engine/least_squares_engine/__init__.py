"""An engine for quant_action, in a package of its own."""
