//! A secret in a dump, as `od`, `xxd` and `hexdump` write it: rows of numbers, or of single characters, with blanks between.
//!
//! Dumps are read, not matched: a row is turned back into bytes in every way in which somebody may have written it, so it
//! does not matter at which byte of a row or a word the secret begins. It is found where six bytes of it follow one another,
//! and where three bytes of it begin or end a row: so what stays visible is two bytes on either side of a row's end, at most.
//! A row of fewer than three bytes shows nothing that could be known.

mod row;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, BuildError};

use super::{SHORTEST, Span};
use row::Row;

/// So many bytes of a secret that follow one another are found anywhere in a row,
const PIECE: usize = 6;
/// and so many where the row ends in the midst of the secret.
const AT_THE_EDGE: usize = 3;

/// The secrets, as dumps are searched for them.
pub(super) struct Dumps {
    numbers: Parts,
    /// Without blanks, which cannot be told from those between two characters.
    characters: Parts,
}

struct Parts {
    parts: BTreeSet<Vec<u8>>,
    pieces: AhoCorasick,
    /// The least that is looked for begins with these bytes: where none of them is, nothing is.
    beginnings: HashSet<Vec<u8>>,
}

impl Dumps {
    pub(super) fn of(parts: &BTreeSet<&str>) -> Result<Self, BuildError> {
        let numbers: BTreeSet<Vec<u8>> = parts.iter().map(|part| part.as_bytes().into()).collect();
        let characters: BTreeSet<Vec<u8>> = parts
            .iter()
            .map(|part| part.replace(' ', "").into_bytes())
            .filter(|part| part.len() >= SHORTEST)
            // `od -a` shows seven bits of a byte.
            .flat_map(|part| [part.iter().map(|byte| byte & 0x7f).collect(), part])
            .collect();
        Ok(Self {
            numbers: Parts::of(numbers)?,
            characters: Parts::of(characters)?,
        })
    }

    /// Adds where secrets stand in the rows of a text.
    pub(super) fn find(&self, text: &[u8], found: &mut Vec<Span>) {
        for (start, line) in lines(text) {
            let mut add = |parts: &Parts, rows: Vec<Row>| {
                let spans = rows.iter().flat_map(|row| parts.spans(row, line));
                found.extend(spans.map(|span| (start + span.0, start + span.1)));
            };
            add(&self.numbers, row::numbers(line));
            add(&self.characters, row::characters(line));
        }
    }
}

/// The lines of a text without their ends, each with the place where it begins.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut behind = 0;
    text.split_inclusive(|byte| *byte == b'\n')
        .map(move |whole| {
            let start = behind;
            behind += whole.len();
            let line = whole.strip_suffix(b"\n").unwrap_or(whole);
            (start, line.strip_suffix(b"\r").unwrap_or(line))
        })
}

impl Parts {
    fn of(parts: BTreeSet<Vec<u8>>) -> Result<Self, BuildError> {
        let pieces: BTreeSet<&[u8]> = parts
            .iter()
            .flat_map(|part| part.windows(PIECE.min(part.len())))
            .collect();
        let beginnings = parts.iter().flat_map(|part| part.windows(AT_THE_EDGE));
        Ok(Self {
            pieces: AhoCorasick::new(pieces)?,
            beginnings: beginnings.map(<[u8]>::to_vec).collect(),
            parts,
        })
    }

    /// Where secrets stand in a row: among its numbers, and in the characters beside them.
    fn spans(&self, row: &Row, line: &[u8]) -> Vec<Span> {
        let ranges = self.ranges(row);
        if ranges.is_empty() {
            return Vec::new();
        }
        let beside = row.beside(line);
        let mut spans: Vec<Span> = Vec::new();
        for range in ranges {
            spans.extend(row.span(&range));
            spans.extend(beside.map(|(start, end)| {
                let at = |of: usize| end.min(start + of);
                (at(range.start), at(range.end))
            }));
        }
        spans.retain(|span| span.0 < span.1);
        spans
    }

    fn ranges(&self, row: &Row) -> Vec<Range<usize>> {
        if row.bytes.len() < AT_THE_EDGE {
            return Vec::new();
        }
        let hits = self.pieces.find_overlapping_iter(&row.bytes);
        let mut ranges: Vec<Range<usize>> = hits.map(|hit| hit.range()).collect();
        // The bytes of a range, where they could be a secret's.
        let bytes = |range: &Range<usize>| {
            let bytes = row.bytes.get(range.clone())?;
            let beginning = bytes.get(..AT_THE_EDGE)?;
            self.beginnings.contains(beginning).then_some(bytes)
        };
        let any = |is: &dyn Fn(&Vec<u8>) -> bool| self.parts.iter().any(is);
        for &edge in &row.edges {
            for length in AT_THE_EDGE..PIECE {
                let before = edge.saturating_sub(length)..edge;
                if bytes(&before).is_some_and(|bytes| any(&|part| part.starts_with(bytes))) {
                    ranges.push(before);
                }
                let behind = edge..edge + length;
                if bytes(&behind).is_some_and(|bytes| any(&|part| part.ends_with(bytes))) {
                    ranges.push(behind);
                }
            }
        }
        // A row so short that the secret goes on before and behind it.
        for edges in row.edges.windows(2) {
            let all = edges[0]..edges[1];
            let is_short = all.len() < PIECE;
            let within =
                |bytes: &[u8]| any(&|part| part.windows(bytes.len()).any(|of| of == bytes));
            if is_short && bytes(&all).is_some_and(within) {
                ranges.push(all);
            }
        }
        ranges
    }
}
