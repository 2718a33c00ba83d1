//! Redis' snapshots and append-only files.
//!
//! Source of the formats: `rdb.c` and `aof.c` of Redis 7. A snapshot ends with the opcode 0xff and, from version 5
//! on, a CRC-64 of all before it; zero where `rdbchecksum no` was set. An append-only file is a row of commands, each
//! with the numbers of its parts and bytes.

use super::error::BackupError;
use super::format::{DumpFacts, Format};
use super::read::Judged;
use super::stream::{Stream, Tail};

const CRC: crc::Crc<u64, crc::Table<16>> = crc::Crc::<u64, crc::Table<16>>::new(&crc::CRC_64_REDIS);
const END: u8 = 0xff;
/// Commands of more parts or longer ones are no commands: Redis' own limits are lower.
const MAX_PARTS: u64 = 1 << 31;

/// Reads a snapshot to its end.
pub(super) fn judge_rdb(stream: &mut Stream) -> Result<Judged, BackupError> {
    let version = version(stream)?;
    let dump = DumpFacts {
        server_version: server_version(&stream.head),
        ..DumpFacts::default()
    };
    let trailer: usize = if version >= 5 { 8 } else { 0 };
    // The checksum covers all but itself, so the last bytes are held back until it is known that they are the last.
    let mut digest = CRC.digest();
    let mut held = Vec::new();
    let mut last = Tail::new(trailer + 1);
    stream.each("inside the snapshot", |part| {
        last.push(part);
        held.extend_from_slice(part);
        let sure = held.len().saturating_sub(trailer);
        digest.update(&held[..sure]);
        held.drain(..sure);
    })?;
    if last.kept.len() != trailer + 1 || last.kept[0] != END {
        return Err(stream
            .truncated("expected the end mark 0xff and a checksum as the snapshot's last bytes"));
    }
    let expected = held
        .iter()
        .rev()
        .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    let complete = if version < 5 {
        "end mark seen; a snapshot this old has no checksum"
    } else if expected == 0 {
        "end mark seen; made without a checksum"
    } else if digest.finalize() == expected {
        "end mark seen, checksum holds"
    } else {
        return Err(stream.damaged(
            "its CRC-64 does not hold: it is damaged or cut, or something follows its end",
        ));
    };
    Ok(Judged {
        dump: Some(dump),
        ..Judged::new(Format::RedisRdb, complete)
    })
}

fn version(stream: &Stream) -> Result<u32, BackupError> {
    let digits = stream
        .head
        .get(5..9)
        .ok_or_else(|| stream.truncated("it ends inside its first bytes"))?;
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| stream.damaged("expected a version after `REDIS`"))
}

/// The note that Redis puts first, of its own version.
fn server_version(head: &[u8]) -> Option<String> {
    let key = b"redis-ver";
    let at = head.windows(key.len()).position(|part| part == key)? + key.len();
    let length = usize::from(*head.get(at)?);
    // Two more bits would say that the length is stored otherwise; no version is that long.
    let text = head.get(at + 1..at + 1 + length).filter(|_| length < 64)?;
    String::from_utf8(text.to_vec()).ok()
}

/// Reads an append-only file to its end, also one that begins with a snapshot.
pub(super) fn judge_aof(stream: &mut Stream) -> Result<Judged, BackupError> {
    let preamble = stream.head.starts_with(b"REDIS");
    if preamble && version(stream)? < 5 {
        return Err(BackupError::unsupported(
            &stream.path,
            "it begins with a snapshot of a version that no append-only file begins with",
        ));
    }
    let mut reader = Buffered::new(stream);
    let start = if preamble {
        skip_preamble(&mut reader)?;
        "checksum of the snapshot at its start holds, then "
    } else {
        ""
    };
    let commands = commands(&mut reader)?;
    Ok(Judged::new(
        Format::RedisAof,
        format!("{start}{commands} whole commands; whether more followed cannot be seen"),
    ))
}

/// Reads the snapshot that an append-only file may begin with. Its length is nowhere, so its end is where the end mark
/// is followed by the checksum of all before.
fn skip_preamble(reader: &mut Buffered<'_>) -> Result<(), BackupError> {
    let mut digest = Rolling::default();
    let mut window = [0_u8; 9];
    let mut count = 0_u64;
    while let Some(byte) = reader.byte("inside the snapshot at its start")? {
        window.rotate_left(1);
        window[8] = byte;
        count += 1;
        if count < 9 {
            continue;
        }
        // Of all bytes but the last eight, which may be it.
        let [oldest, sum @ ..] = window;
        digest.push(oldest);
        if oldest == END && u64::from_le_bytes(sum) == digest.0 {
            return Ok(());
        }
    }
    Err(reader.stream.truncated(
        "expected a snapshot with a checksum at its start, found no end of one; one made with `rdbchecksum no` cannot be judged",
    ))
}

/// The same CRC-64, one byte at a time.
#[derive(Default)]
struct Rolling(u64);

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                value >> 1 ^ 0x95ac_9329_ac4b_c9b5
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

impl Rolling {
    fn push(&mut self, byte: u8) {
        let [low, ..] = self.0.to_le_bytes();
        self.0 = TABLE[usize::from(low ^ byte)] ^ self.0 >> 8;
    }
}

/// Counts the commands to the end.
fn commands(reader: &mut Buffered<'_>) -> Result<u64, BackupError> {
    let mut commands = 0;
    loop {
        let at = format!("inside command {}", commands + 1);
        match reader.byte(&at)? {
            None => return Ok(commands),
            Some(b'#') => {
                reader.line(&at)?;
            }
            Some(b'*') => {
                let parts = reader.number(&at)?;
                for _ in 0..parts {
                    match reader.byte(&at)? {
                        Some(b'$') => {}
                        Some(_) => return Err(reader.bad(&at)),
                        None => return Err(reader.cut(&at)),
                    }
                    let length = reader.number(&at)?;
                    reader.skip(length, &at)?;
                    reader.line_end(&at)?;
                }
                commands += 1;
            }
            Some(_) => return Err(reader.bad(&at)),
        }
    }
}

/// Single bytes out of a stream, which is not made for them.
struct Buffered<'a> {
    stream: &'a mut Stream,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
}

impl<'a> Buffered<'a> {
    fn new(stream: &'a mut Stream) -> Self {
        Self {
            stream,
            buffer: vec![0; 64 * 1024],
            at: 0,
            filled: 0,
        }
    }

    fn cut(&self, at: &str) -> BackupError {
        self.stream.truncated(format!("it ends {at}"))
    }

    fn bad(&self, at: &str) -> BackupError {
        self.stream
            .damaged(format!("expected a command of Redis' protocol {at}"))
    }

    fn more(&mut self, at: &str) -> Result<bool, BackupError> {
        if self.at == self.filled {
            self.filled = self.stream.fill(&mut self.buffer, at)?;
            self.at = 0;
        }
        Ok(self.at < self.filled)
    }

    fn byte(&mut self, at: &str) -> Result<Option<u8>, BackupError> {
        if !self.more(at)? {
            return Ok(None);
        }
        self.at += 1;
        Ok(Some(self.buffer[self.at - 1]))
    }

    fn line(&mut self, at: &str) -> Result<Vec<u8>, BackupError> {
        let mut line = Vec::new();
        loop {
            match self.byte(at)? {
                None => return Err(self.cut(at)),
                Some(b'\r') => break,
                Some(_) if line.len() > 1024 => return Err(self.bad(at)),
                Some(byte) => line.push(byte),
            }
        }
        match self.byte(at)? {
            Some(b'\n') => Ok(line),
            Some(_) => Err(self.bad(at)),
            None => Err(self.cut(at)),
        }
    }

    fn line_end(&mut self, at: &str) -> Result<(), BackupError> {
        if self.line(at)?.is_empty() {
            return Ok(());
        }
        Err(self.bad(at))
    }

    fn number(&mut self, at: &str) -> Result<u64, BackupError> {
        let line = self.line(at)?;
        std::str::from_utf8(&line)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .filter(|number| *number < MAX_PARTS)
            .ok_or_else(|| self.bad(at))
    }

    fn skip(&mut self, mut length: u64, at: &str) -> Result<(), BackupError> {
        while length > 0 {
            if !self.more(at)? {
                return Err(self.cut(at));
            }
            let step = (self.filled - self.at).min(usize::try_from(length).unwrap_or(usize::MAX));
            self.at += step;
            length -= step as u64;
        }
        Ok(())
    }
}

/// What a folder's manifest names.
pub(super) struct AofManifest {
    /// The snapshot or file that all begins with.
    pub(super) base: Option<String>,
    /// What was appended since, in order.
    pub(super) increments: Vec<String>,
}

/// Reads `appendonly.aof.manifest`: one line a file, of keys and values.
pub(super) fn manifest(text: &str) -> Result<AofManifest, String> {
    let mut manifest = AofManifest {
        base: None,
        increments: Vec::new(),
    };
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let bad = || format!("its manifest has a line that is no entry: `{line}`");
        // Names with spaces are quoted as a shell's would be.
        let words = shlex::split(line).ok_or_else(bad)?;
        let value = |key: &str| {
            let mut pairs = words.chunks_exact(2);
            pairs.find_map(|pair| (pair[0] == key).then(|| pair[1].clone()))
        };
        let (Some(file), Some(kind)) = (value("file"), value("type")) else {
            return Err(bad());
        };
        match kind.as_str() {
            "b" => manifest.base = Some(file),
            "i" => manifest.increments.push(file),
            // History: to be deleted, and perhaps deleted already.
            "h" => {}
            _ => return Err(bad()),
        }
    }
    if manifest.base.is_none() && manifest.increments.is_empty() {
        return Err("its manifest names no file".to_owned());
    }
    Ok(manifest)
}
