//! Opening, digesting and unpacking what was handed over.
