//! What a runbook leaves to people, by its comments: `<!-- rehearse:manual tell the warehouse -->`.

use std::ops::Range;
use std::sync::Arc;

use crate::manifest::place::{At, Place, Source};
use crate::manifest::problem::printable;

/// What begins such a comment.
const MARK: &str = "rehearse:manual";

/// One block of HTML. It comes line by line, and a comment may go over many of them.
#[derive(Default)]
pub(super) struct Html {
    text: String,
    /// Where a piece begins in `text`, and where in the file.
    pieces: Vec<(usize, usize)>,
}

impl Html {
    /// Adds what stands in the file from `start` on.
    pub(super) fn add(&mut self, piece: &str, start: usize) {
        self.pieces.push((self.text.len(), start));
        self.text.push_str(piece);
    }

    /// What a person is asked to do, where nothing else can do it.
    pub(super) fn asked(&self, source: &Arc<Source>) -> Vec<At<String>> {
        let mut asked = Vec::new();
        let mut read_to = 0;
        while let Some(mark) = self.find(MARK, read_to) {
            let comment = self.text.get(read_to..mark).unwrap_or_default();
            let begin = comment.rfind("<!--").map_or(mark, |at| read_to + at);
            let words = mark + MARK.len();
            let end = self.find("-->", words).unwrap_or(self.text.len());
            let what = said(self.text.get(words..end).unwrap_or_default());
            let range = self.in_file(begin..end);
            asked.push(At::new(
                what,
                Place::of_range(source, range.start, range.end),
            ));
            read_to = end;
        }
        asked
    }

    fn find(&self, what: &str, from: usize) -> Option<usize> {
        let at = self.text.get(from..)?.find(what)?;
        Some(from + at)
    }

    fn in_file(&self, range: Range<usize>) -> Range<usize> {
        let place = |at: usize| {
            let before = self.pieces.iter().rfind(|(begin, _)| *begin <= at);
            before.map_or(at, |(begin, start)| start + (at - begin))
        };
        place(range.start)..place(range.end)
    }
}

/// The words of a comment in one line.
fn said(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    let what = printable(&words.join(" "));
    let what = what.trim_matches(|c: char| c.is_whitespace() || c == ':');
    if what.is_empty() {
        "something that is not said".to_owned()
    } else {
        what.to_owned()
    }
}
