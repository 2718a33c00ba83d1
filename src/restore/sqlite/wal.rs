//! Whether a write-ahead log is whole.
//!
//! SQLite reads a log up to the first frame whose checksum does not hold, and says nothing of what follows: a damaged
//! log costs transactions without an error. Source of the format: "WAL-mode File Format" of the SQLite documentation,
//! sections 1 and 4.

use std::io::{self, Read};

const HEADER: usize = 32;
const FRAME: usize = 24;
/// The last bit of the magic number says in which order the checksum takes its words.
const MAGIC: u32 = 0x377f_0682;

/// What is in a log that is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// Transactions that were committed.
    pub(super) commits: u64,
}

/// Reads a log to its end. The inner error is what is wrong with it.
///
/// # Errors
/// Those of reading it.
pub(super) fn judge(mut from: impl Read) -> io::Result<Result<Log, String>> {
    let mut header = [0; HEADER];
    match fill(&mut from, &mut header)? {
        0 => return Ok(Ok(Log::default())),
        HEADER => {}
        read => return Ok(Err(format!("it ends inside its header ({read} bytes)"))),
    }
    let magic = word(&header, 0);
    if magic & !1 != MAGIC {
        return Ok(Err("it does not begin as a write-ahead log".to_owned()));
    }
    let page = match word(&header, 8) as usize {
        size @ 512..=65536 if size.is_power_of_two() => size,
        size => return Ok(Err(format!("its header gives a page size of {size}"))),
    };
    let mut sum = Sum {
        big_endian: magic & 1 == 1,
        of: (0, 0),
    };
    sum.add(&header[..24]);
    if sum.of != (word(&header, 24), word(&header, 28)) {
        return Ok(Err("the checksum of its header does not hold".to_owned()));
    }
    let mut log = Log::default();
    let mut frame = vec![0; FRAME + page];
    let mut broken_at = None;
    for number in 1_u64.. {
        let read = fill(&mut from, &mut frame)?;
        if read == 0 {
            break;
        }
        if read < frame.len() {
            return Ok(Err(format!("it ends inside frame {number}")));
        }
        // Frames of an earlier use of the file have other salts, and are no part of it.
        let ours = frame[8..16] == header[16..24];
        let commits = word(&frame, 4) != 0;
        if broken_at.is_none() && ours {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME..]);
            if sum.of == (word(&frame, 16), word(&frame, 20)) {
                log.commits += u64::from(commits);
                continue;
            }
        }
        let at = *broken_at.get_or_insert(number);
        if ours && commits {
            return Ok(Err(format!(
                "the checksum of frame {at} does not hold, and transactions behind it are lost"
            )));
        }
    }
    Ok(Ok(log))
}

/// Reads until `buffer` is full or the end is there; how many bytes there were.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

struct Sum {
    big_endian: bool,
    of: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let [one, two] = [0, 4].map(|at| {
                let word = word(pair, at);
                if self.big_endian {
                    word
                } else {
                    word.swap_bytes()
                }
            });
            self.of.0 = self.of.0.wrapping_add(one).wrapping_add(self.of.1);
            self.of.1 = self.of.1.wrapping_add(two).wrapping_add(self.of.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of frames, each with the size that a commit leaves behind, or 0.
    fn log(commits: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [MAGIC | 1, 3_007_000, 512, 0, 17, 23] {
            bytes.extend(u32::to_be_bytes(word));
        }
        let mut sum = Sum {
            big_endian: true,
            of: (0, 0),
        };
        sum.add(&bytes);
        bytes.extend(sum.of.0.to_be_bytes());
        bytes.extend(sum.of.1.to_be_bytes());
        for (number, commit) in commits.iter().enumerate() {
            let mut head = Vec::new();
            head.extend((number as u32 + 1).to_be_bytes());
            head.extend(commit.to_be_bytes());
            let page = vec![number as u8; 512];
            sum.add(&head);
            sum.add(&page);
            for word in [17, 23, sum.of.0, sum.of.1] {
                head.extend(u32::to_be_bytes(word));
            }
            bytes.extend(head);
            bytes.extend(page);
        }
        bytes
    }

    fn said(bytes: &[u8]) -> Result<Log, String> {
        judge(bytes).expect("memory")
    }

    #[test]
    fn a_whole_log_is_whole_and_damage_that_costs_transactions_is_seen() {
        let whole = log(&[0, 2, 0, 3]);
        assert_eq!(said(&whole), Ok(Log { commits: 2 }));
        assert_eq!(said(&[]), Ok(Log { commits: 0 }));
        let frame = FRAME + 512;
        for (at, word) in [
            (3, "does not begin"),
            (13, "checksum of its header"),
            (HEADER + 100, "frame 1"),
            (HEADER + frame + 9, "frame 2"),
            (HEADER + 3 * frame + 300, "frame 4"),
        ] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            let said = said(&damaged).expect_err(word);
            assert!(said.contains(word), "{said}");
        }
        for cut in [5, HEADER + 10, whole.len() - 1] {
            assert!(said(&whole[..cut]).is_err(), "{cut}");
        }
        // Nothing says how many there were.
        assert_eq!(said(&whole[..HEADER + 2 * frame]), Ok(Log { commits: 1 }));
    }

    #[test]
    fn frames_of_an_earlier_use_are_no_damage() {
        let mut reused = log(&[2]);
        let mut old = log(&[0, 2])[HEADER + FRAME + 512..].to_vec();
        old[11] ^= 1;
        reused.extend(old);
        assert_eq!(said(&reused), Ok(Log { commits: 1 }));
        // What a transaction had written that was never committed is no loss.
        let mut torn = log(&[2, 0]);
        let last = torn.len() - 1;
        torn[last] ^= 1;
        assert_eq!(said(&torn), Ok(Log { commits: 1 }));
    }
}
