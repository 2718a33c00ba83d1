//! Whether exactly this package was rehearsed: a pure decision over records.
