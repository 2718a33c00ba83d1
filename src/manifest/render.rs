//! Problems drawn for a terminal.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::manifest::problem::Problem;

/// One problem, with ANSI colours; whether the terminal wants them is decided by who prints it.
pub(super) fn problem(problem: &Problem) -> String {
    let path = problem.location.path.display().to_string();
    let line = problem.source_line.trim_end();
    let title = Level::ERROR.primary_title(problem.message.as_str());
    let mut group = if line.is_empty() {
        title.element(
            Origin::path(path)
                .line(problem.location.line)
                .char_column(problem.location.column),
        )
    } else {
        let start = line
            .char_indices()
            .nth(problem.location.column.saturating_sub(1))
            .map_or(line.len(), |(at, _)| at);
        let end = start + problem.text.len();
        // A range off the line, or inside a character, would be drawn as nothing.
        let end = if end > start && line.is_char_boundary(end) {
            end
        } else {
            line.len().max(start)
        };
        title.element(
            Snippet::source(line)
                .path(path)
                .line_start(problem.location.line)
                .annotation(AnnotationKind::Primary.span(start..end)),
        )
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::styled().render(&[group])
}
