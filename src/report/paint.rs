//! Colours, only where they are wanted.

use anstyle::{AnsiColor, Style};

use crate::verdict::Outcome;

/// Paints, or leaves as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// No colours.
    pub(super) const PLAIN: Self = Self { on: false };

    /// Colours where this stream is a terminal and the environment does not ask for none (`NO_COLOR` and its kin).
    pub(super) fn for_stream(stream: &impl anstream::stream::RawStream) -> Self {
        Self {
            on: anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
        }
    }

    #[cfg(test)]
    pub(super) const COLOURS: Self = Self { on: true };

    fn with(self, style: Style, text: &str) -> String {
        if self.on {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    pub(super) fn doubt(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }

    /// The outcome in capitals; with colours, on a field that is seen from across the room.
    pub(super) fn badge(self, outcome: Outcome) -> String {
        let field = match outcome {
            Outcome::Passed => AnsiColor::Green,
            Outcome::Failed => AnsiColor::Red,
            Outcome::Invalid => AnsiColor::Yellow,
        };
        let word = outcome.name().to_uppercase();
        let style = AnsiColor::Black.on(field).bold();
        if self.on {
            self.with(style, &format!(" {word} "))
        } else {
            word
        }
    }
}
