"""Codes as SciPy's sparse matrices, for products of codes with codes."""

from scipy.sparse import csr_array

from sae_stitching.sparse.codes import SparseCodes


def to_csr(codes: SparseCodes) -> csr_array:
    """Activations (token, d_sae) in float64."""
    pattern = codes.pattern
    return csr_array(
        (codes.values.double().numpy(), pattern.indices.numpy(), pattern.indptr.numpy()),
        shape=(pattern.n_tokens, pattern.d_sae),
    )
