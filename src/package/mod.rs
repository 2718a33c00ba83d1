//! Opening, digesting and unpacking what was handed over.
/// stub
pub struct TarOptions { /// p
pub prefix: std::path::PathBuf, /// o
pub owner: (u64,u64), /// m
pub mode: Option<u32> }
/// stub
pub fn tar_folder(_: &std::path::Path, _: &mut dyn std::io::Write, _: &TarOptions) -> std::io::Result<()> { Ok(()) }
