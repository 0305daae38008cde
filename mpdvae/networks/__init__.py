"""Networks without distributions: weight normalisation, causal convolutions, blocks, PixelCNN, MADE."""
