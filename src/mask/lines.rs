//! Masks what comes in chunks that begin and end anywhere.

use super::{Mask, without};

/// A line without an end is written in portions when it is longer than this, in bytes.
const MOST: usize = 64 * 1024;

/// Masks a stream of bytes line by line; a carriage return ends a line too. Without a secret the bytes go through as they come.
#[derive(Debug)]
pub struct Lines {
    mask: Mask,
    pending: Vec<u8>,
}

impl Lines {
    /// A stream from which these secrets are kept out.
    pub fn new(mask: Mask) -> Self {
        Self {
            mask,
            pending: Vec::new(),
        }
    }

    /// Takes a chunk, and returns what can be shown by now.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.mask.is_empty() {
            return chunk.to_vec();
        }
        let ended = chunk.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
        let (lines, begun) = chunk.split_at(ended.map_or(0, |end| end + 1));
        let mut shown = Vec::new();
        if !lines.is_empty() {
            self.pending.extend_from_slice(lines);
            shown = self.finish();
        }
        self.pending.extend_from_slice(begun);
        shown.extend(self.portion());
        shown
    }

    /// What is left of the last line, when nothing more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.pending);
        without(&text, &self.mask.spans(&text))
    }

    /// The beginning of a line that has become too long. As much is held back as a secret may need to be known, and a secret
    /// that lies across is not cut.
    fn portion(&mut self) -> Vec<u8> {
        let reach = self.mask.reach();
        if self.pending.len() <= MOST + reach {
            return Vec::new();
        }
        let mut end = self.pending.len() - reach;
        let mut spans = self.mask.spans(&self.pending);
        if let Some(across) = spans.iter().find(|span| span.0 < end && end < span.1) {
            end = if across.0 == 0 { across.1 } else { across.0 };
        }
        spans.retain(|span| span.1 <= end);
        let rest = self.pending.split_off(end);
        without(&std::mem::replace(&mut self.pending, rest), &spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hG7-quite-secret-2291";

    fn through(chunks: impl IntoIterator<Item = Vec<u8>>, mask: Mask) -> String {
        let mut lines = Lines::new(mask);
        let mut shown: Vec<u8> = chunks
            .into_iter()
            .flat_map(|chunk| lines.push(&chunk))
            .collect();
        shown.extend(lines.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_is_masked_wherever_a_chunk_ends() {
        let text = format!("before\n{SECRET} in a line\r\nand at the end {SECRET}");
        let masked = "before\n*** in a line\r\nand at the end ***";
        for size in 1..=text.len() {
            let chunks = text.as_bytes().chunks(size).map(<[u8]>::to_vec);
            assert_eq!(through(chunks, Mask::of([SECRET]).unwrap()), masked);
        }
    }

    #[test]
    fn a_line_is_shown_when_it_ends_and_bytes_stay_what_they_are() {
        let mut lines = Lines::new(Mask::of([SECRET]).unwrap());
        assert_eq!(lines.push(b"one\ntw"), b"one\n");
        assert_eq!(lines.push(b"o\xff\r"), b"two\xff\r");
        assert_eq!(lines.push(b"three"), b"");
        assert_eq!(lines.finish(), b"three");
        assert_eq!(lines.finish(), b"");
        let mut open = Lines::new(Mask::default());
        assert_eq!(open.push(b"no line"), b"no line");
        assert_eq!(open.finish(), b"");
    }

    #[test]
    fn a_line_without_end_is_masked_in_portions() {
        let mask = Mask::of([SECRET]).unwrap();
        let border = MOST + mask.reach();
        // Wherever the secret lies to the border of a portion, and however the chunks fall.
        for shift in (0..40).step_by(3) {
            for (before, size) in [
                (MOST - shift, 4096),
                (border - shift, 16 * 1024),
                (border - shift, 1000),
            ] {
                let dots = ".".repeat(before);
                let text = format!("{dots}{SECRET}{dots}");
                let chunks = text.as_bytes().chunks(size).map(<[u8]>::to_vec);
                let shown = through(chunks, mask.clone());
                assert!(shown == text.replace(SECRET, "***"), "{before}, {size}");
            }
        }
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mask = Mask::of([SECRET]).unwrap();
        let most = MOST + mask.reach();
        let mut lines = Lines::new(mask);
        for chunk in [&b".".repeat(1000), &SECRET.as_bytes().repeat(50)] {
            for _ in 0..200 {
                let shown = lines.push(chunk);
                assert!(lines.pending.len() <= most);
                let shown = String::from_utf8(shown).unwrap();
                assert!(!shown.contains("secret"));
            }
        }
    }
}
