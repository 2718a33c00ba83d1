//! Whose fault an error is: the other side's (it did not answer), nobody's (there is no way), or our own.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::check::model::Unseen;

/// True where the error is about this process or its machine and so says nothing about the other side.
pub(super) fn ours(error: &io::Error) -> bool {
    [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::PERM,
        Errno::ACCESS,
        Errno::INVAL,
        Errno::BADF,
    ]
    .into_iter()
    .any(|errno| is(error, errno))
}

/// True for this very error of the kernel.
pub(super) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// The error of the other side, or our own, as it counts for a probe.
pub(super) fn unseen(what: &str, error: &(dyn Error + 'static)) -> Unseen {
    let reason = format!("{what}: {}", say(error));
    match io_error(error) {
        Some(io) if ours(io) => Unseen::Undetermined(reason),
        Some(_) | None => Unseen::Unanswered(reason),
    }
}

/// The innermost input or output error of a chain of causes.
fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    chain(error)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .last()
}

/// The last cause of a chain, which is the one that tells something, in lower case and without its number.
pub(super) fn say(error: &(dyn Error + 'static)) -> String {
    let text = chain(error)
        .last()
        .map_or_else(String::new, ToString::to_string);
    let text = text
        .split_once(" (os error ")
        .map_or(text.as_str(), |(text, _)| text)
        .trim_start_matches("failed to lookup address information: ");
    let mut letters = text.chars();
    match letters.next() {
        // `HTTP` and the like stay as they are.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        Some(_) | None => text.to_owned(),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The words for a time that is over.
pub(super) fn timed_out(after: Duration) -> String {
    format!("timed out after {after:?}")
}
