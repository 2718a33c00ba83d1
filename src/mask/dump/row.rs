//! The rows that a line may be, as bytes.

use std::ops::Range;

use crate::mask::Span;

/// Bytes that somebody may have written as a row of a dump.
#[derive(Default)]
pub(super) struct Row {
    pub(super) bytes: Vec<u8>,
    /// Before which bytes the row may begin, and behind which it may end, in order.
    pub(super) edges: Vec<usize>,
    /// Where in the line each byte is written.
    places: Vec<Span>,
}

/// A number in a line, of any radix.
struct Number<'a> {
    digits: &'a str,
    start: usize,
    /// It stands apart from what is before it: a column of characters may begin here that look like digits.
    apart: bool,
}

impl Number<'_> {
    fn place(&self) -> Span {
        (self.start, self.start + self.digits.len())
    }
}

impl Row {
    fn push(&mut self, byte: u8, place: Span) {
        self.bytes.push(byte);
        self.places.push(place);
    }

    fn with_ends(mut self) -> Self {
        self.edges.insert(0, 0);
        self.edges.push(self.bytes.len());
        self.edges.dedup();
        self
    }

    /// From hexadecimal words.
    fn of_words(words: &[Number], little_endian: bool) -> Option<Self> {
        let mut row = Self::default();
        for word in words {
            if word.apart {
                row.edges.push(row.bytes.len());
            }
            let count = word.digits.len() / 2;
            for at in 0..count {
                let at = 2 * if little_endian { count - 1 - at } else { at };
                let byte = u8::from_str_radix(word.digits.get(at..at + 2)?, 16).ok()?;
                row.push(byte, (word.start + at, word.start + at + 2));
            }
        }
        Some(row.with_ends())
    }

    /// From numbers of so many bytes each, in both orders; none where one has more.
    fn of_values(numbers: &[Number], radix: u32, size: usize) -> Vec<Self> {
        let mut little_endian = Self::default();
        let mut big_endian = Self::default();
        for number in numbers {
            let Ok(value) = u64::from_str_radix(number.digits, radix) else {
                return Vec::new();
            };
            let bytes = value.to_le_bytes();
            let (bytes, rest) = bytes.split_at(size);
            if rest.iter().any(|byte| *byte != 0) {
                return Vec::new();
            }
            for byte in bytes {
                little_endian.push(*byte, number.place());
            }
            for byte in bytes.iter().rev() {
                big_endian.push(*byte, number.place());
            }
        }
        let mut rows: Vec<Self> = [little_endian, big_endian].map(Self::with_ends).into();
        rows.truncate(size);
        rows
    }

    /// Where some of its bytes stand.
    pub(super) fn span(&self, range: &Range<usize>) -> Option<Span> {
        let places = self.places.get(range.clone())?;
        let start = places.iter().map(|place| place.0).min()?;
        let end = places.iter().map(|place| place.1).max()?;
        Some((start, end))
    }

    /// The column in which the same bytes stand as characters: between `|` as `hexdump` writes it, between `>` and `<` as
    /// `od` does, or at the line's end behind two blanks, as `xxd` does.
    pub(super) fn beside(&self, line: &[u8]) -> Option<Span> {
        let (_, end) = self.span(&(0..self.bytes.len()))?;
        let rest = line.get(end..)?.trim_ascii_start();
        if matches!(rest, [b'|', .., b'|'] | [b'>', .., b'<']) {
            return Some((line.len() - rest.len() + 1, line.len() - 1));
        }
        self.edges.iter().rev().find_map(|&bytes| {
            let (_, end) = *self.places.get(bytes.checked_sub(1)?)?;
            let column = line.len().checked_sub(bytes)?;
            let (gap, shown) = (line.get(end..column)?, line.get(column..)?);
            let is_column = gap.ends_with(b"  ") && !shown.trim_ascii().is_empty();
            is_column.then_some((column, line.len()))
        })
    }
}

/// Every way to read a line as a row of numbers.
pub(super) fn numbers(line: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row: Vec<Number> = Vec::new();
    let mut behind = 0;
    for word in line.chunk_by(|a, b| a.is_ascii_alphanumeric() == b.is_ascii_alphanumeric()) {
        let start = behind;
        behind += word.len();
        let number = match word[0].is_ascii_alphanumeric() {
            true => number(word, start),
            false if joins(word) => continue,
            false => None,
        };
        match number {
            Some(mut number) => {
                number.apart = line.get(..start).unwrap_or_default().ends_with(b"  ");
                row.push(number);
            }
            None => read(&std::mem::take(&mut row), &mut rows),
        }
    }
    read(&row, &mut rows);
    rows
}

/// Digits, perhaps after the `0x` of a list or the `x` of an escape.
fn number(word: &[u8], start: usize) -> Option<Number<'_>> {
    let text = std::str::from_utf8(word).ok()?;
    let digits = ["0x", "0X", "x"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_number.then_some(Number {
        digits,
        start: start + text.len() - digits.len(),
        apart: false,
    })
}

/// What stands between two numbers of a row: blanks, the comma of a list, or what an escape begins with.
fn joins(gap: &[u8]) -> bool {
    match gap.trim_ascii() {
        b"" | b"," => true,
        inner => inner.len() == gap.len() && matches!(inner, b":" | b"-" | b"\\" | b"%"),
    }
}

/// Every way to read numbers that follow one another.
fn read(numbers: &[Number], rows: &mut Vec<Row>) {
    let digits: usize = numbers.iter().map(|number| number.digits.len()).sum();
    if digits < 2 * super::AT_THE_EDGE {
        return;
    }
    let mut from = 0;
    for words in numbers.chunk_by(|a, b| a.digits.len() == b.digits.len()) {
        let to = from + words.len();
        let width = words[0].digits.len();
        if width % 2 == 0 {
            // `xxd` writes what is left of a row as a shorter word.
            let rest = numbers.get(to).map_or(0, |number| number.digits.len());
            let with_rest = to + usize::from(rest != 0 && rest < width && rest % 2 == 0);
            let words = &numbers[from..with_rest];
            rows.extend(Row::of_words(words, false));
            if matches!(width, 4 | 8 | 16) {
                rows.extend(Row::of_words(words, true));
            }
        }
        let size = match width {
            3 => Some((8, 1)),
            6 => Some((8, 2)),
            11 => Some((8, 4)),
            22 => Some((8, 8)),
            8 => Some((2, 1)),
            _ => None,
        };
        if let Some((radix, size)) = size {
            rows.extend(Row::of_values(words, radix, size));
        }
        from = to;
    }
    rows.extend(decimal(numbers));
    // The first number of a line may be the address.
    if let [address, others @ ..] = numbers
        && address.start == 0
    {
        rows.extend(decimal(others));
    }
}

/// Decimal numbers have as many bytes as the largest needs.
fn decimal(numbers: &[Number]) -> Vec<Row> {
    [1, 2, 4, 8]
        .into_iter()
        .map(|size| Row::of_values(numbers, 10, size))
        .find(|rows| !rows.is_empty())
        .unwrap_or_default()
}

/// Every row of single characters in a line, as `od -c`, `od -a` and `hexdump -c` write them.
pub(super) fn characters(line: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = Row::default();
    let mut behind = 0;
    for cell in line.split(|byte| *byte == b' ') {
        let start = behind;
        behind += cell.len() + 1;
        match (cell, character(cell)) {
            (b"" | b"sp", _) => {}
            (_, Some(byte)) => row.push(byte, (start, start + cell.len())),
            (_, None) if row.bytes.is_empty() => {}
            (_, None) => rows.push(std::mem::take(&mut row).with_ends()),
        }
    }
    rows.push(row.with_ends());
    rows
}

fn character(cell: &[u8]) -> Option<u8> {
    match cell {
        [byte] => Some(*byte),
        b"\\n" | b"nl" => Some(b'\n'),
        b"\\t" | b"ht" => Some(b'\t'),
        b"\\r" | b"cr" => Some(b'\r'),
        [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7'] => {
            let digit = |at: usize| cell[at] - b'0';
            Some(digit(0) * 64 + digit(1) * 8 + digit(2))
        }
        _ => None,
    }
}
