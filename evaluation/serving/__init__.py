"""A trained model elsewhere: merged weights, the vllm line, and requests that ask as training did."""
