//! What `pg_restore` and `psql` say went wrong, and whether each message of it is explained.
//!
//! A restore that tolerates messages runs to its end whatever happens, and what it said must then be exactly what was
//! foreseen: a message that is not listed, or comes more or less often than listed, is a failed restore.

use std::collections::BTreeMap;

use crate::plan::model::Tolerated;

/// Which tool speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    PgRestore,
    Psql,
}

impl Speaker {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PgRestore => "pg_restore",
            Self::Psql => "psql",
        }
    }
}

/// The errors of one restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Each error's message, without the tool's name and `ERROR:` before it.
    pub(super) errors: Vec<String>,
    /// What the server adds to the first error.
    pub(super) detail: Option<String>,
    /// How many errors `pg_restore` says that it ignored.
    pub(super) ignored: Option<u64>,
}

/// What a server says that is no error.
const HARMLESS: [&str; 5] = ["NOTICE:", "WARNING:", "INFO:", "LOG:", "DEBUG:"];

impl Said {
    /// Hears one line of standard error.
    pub(super) fn hear(&mut self, speaker: Speaker, line: &str) {
        if self.errors.len() == 1 && self.detail.is_none() && line.starts_with("DETAIL:") {
            self.detail = Some(line.to_owned());
        }
        let error = match speaker {
            Speaker::PgRestore => self.of_pg_restore(line),
            Speaker::Psql => of_psql(line),
        };
        self.errors.extend(error);
    }

    fn of_pg_restore(&mut self, line: &str) -> Option<String> {
        const IGNORED: &str = "errors ignored on restore: ";
        let said = line.strip_prefix("pg_restore: ").or_else(|| {
            // Up to version 11 the last line has no tool's name.
            line.starts_with(&format!("WARNING: {IGNORED}"))
                .then_some(line)
        })?;
        if let Some((_, count)) = said.split_once(IGNORED) {
            self.ignored = count.trim().parse().ok();
            return None;
        }
        if let Some(error) = said
            .strip_prefix("error: ")
            .or_else(|| said.strip_prefix("fatal: "))
        {
            return Some(message(error));
        }
        // Version 11 and older.
        let old = said.strip_prefix('[')?.split_once("] ")?.1;
        let about = ["Error while ", "Error from TOC entry"];
        if about.iter().any(|about| old.starts_with(about)) {
            return None;
        }
        Some(message(old))
    }

    /// The first error, with what the server adds to it.
    pub(super) fn first(&self) -> Option<String> {
        let first = self.errors.first()?;
        Some(match &self.detail {
            Some(detail) => format!("{first} ({detail})"),
            None => first.clone(),
        })
    }
}

/// A line of `psql` that is an error; one that is not understood is one too.
fn of_psql(line: &str) -> Option<String> {
    let said = line.strip_prefix("psql:")?;
    // `FILE:LINE: ` stands before what the server or psql says of a file's line.
    let said = said
        .split_once(": ")
        .filter(|(place, _)| {
            place
                .rsplit(':')
                .next()
                .is_some_and(|number| number.parse::<u64>().is_ok())
        })
        .map_or(said, |(_, said)| said)
        .trim_start();
    if HARMLESS.iter().any(|word| said.starts_with(word)) {
        return None;
    }
    Some(message(said))
}

fn message(said: &str) -> String {
    const ERROR: &str = "ERROR:  ";
    said.split_once(ERROR)
        .map_or(said, |(_, message)| message)
        .trim()
        .to_owned()
}

/// Judges what was said by what may be said. `ours` are messages that come at most once each, because the service's
/// image made what the backup makes as well. The answer is one figure, where there is something to tell.
///
/// # Errors
/// Each message that is not explained, and each that did not come as often as it was listed.
pub(super) fn judge(
    errors: &[String],
    tolerated: &[Tolerated],
    ours: &[String],
) -> Result<Option<String>, String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for error in errors {
        *counts.entry(error.as_str()).or_default() += 1;
    }
    let mut wrong = Vec::new();
    let mut known = 0;
    for Tolerated { message, count } in tolerated {
        let seen = counts.remove(message.trim()).unwrap_or(0);
        if seen == *count {
            known += seen;
        } else {
            wrong.push(format!(
                "`{message}` came {seen} times, and is tolerated exactly {count} times"
            ));
        }
    }
    let mut made = 0;
    // In the order in which they came: the first is mostly the cause of the others.
    let mut unlisted: Vec<&str> = Vec::new();
    for error in errors {
        let Some(seen) = counts.remove(error.as_str()) else {
            continue;
        };
        if seen == 1 && ours.contains(error) {
            made += 1;
        } else {
            unlisted.push(error);
        }
    }
    if let Some(first) = unlisted.first() {
        let more = match unlisted.len() {
            1 => String::new(),
            n => format!(" and {} other messages", n - 1),
        };
        wrong.insert(0, format!("`{first}`{more}, which nobody tolerates"));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let mut figures = Vec::new();
    if known > 0 {
        figures.push(format!("{known} tolerated {}", messages(known)));
    }
    if made > 0 {
        figures.push(format!(
            "{made} {} about what the service's image had made already",
            messages(made)
        ));
    }
    Ok((!figures.is_empty()).then(|| figures.join(", ")))
}

const fn messages(count: u64) -> &'static str {
    if count == 1 { "message" } else { "messages" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(speaker: Speaker, text: &str) -> Said {
        let mut said = Said::default();
        for line in text.lines() {
            said.hear(speaker, line);
        }
        said
    }

    #[test]
    fn errors_are_told_from_everything_else() {
        let said = heard(
            Speaker::PgRestore,
            "pg_restore: connecting to database for restore\n\
             pg_restore: creating TABLE \"public.error: log\"\n\
             pg_restore: while PROCESSING TOC:\n\
             pg_restore: from TOC entry 3345; 0 0 ACL TABLE t ledger\n\
             pg_restore: error: could not execute query: ERROR:  role \"reader\" does not exist\n\
             Command was: GRANT SELECT ON TABLE public.t TO reader;\n\
             pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input syntax for type integer: \"x\"\n\
             CONTEXT:  COPY t, line 1, column id: \"x\"\n\
             pg_restore: warning: errors ignored on restore: 2\n",
        );
        assert_eq!(
            said.errors,
            [
                "role \"reader\" does not exist",
                "invalid input syntax for type integer: \"x\""
            ]
        );
        assert_eq!(said.ignored, Some(2));
        let old = heard(
            Speaker::PgRestore,
            "pg_restore: [archiver (db)] Error while PROCESSING TOC:\n\
             pg_restore: [archiver (db)] Error from TOC entry 1; 0 0 TABLE t\n\
             pg_restore: [archiver (db)] could not execute query: ERROR:  role \"a\" does not exist\n\
             WARNING: errors ignored on restore: 1\n",
        );
        assert_eq!(
            (old.errors.as_slice(), old.ignored),
            (["role \"a\" does not exist".to_owned()].as_slice(), Some(1))
        );
        let psql = heard(
            Speaker::Psql,
            "psql:/rehearse-backup/0:14: ERROR:  role \"ledger\" already exists\n\
             psql:/rehearse-backup/0:20: NOTICE:  table \"t\" does not exist, skipping\n\
             psql:/rehearse-backup/0:21: ERROR:  duplicate key value violates unique constraint \"t_pkey\"\n\
             DETAIL:  Key (id)=(1) already exists.\n\
             psql:/rehearse-backup/0:90: error: \\connect: connection to server failed\n\
             psql: error: /rehearse-backup/0: No such file or directory\n",
        );
        assert_eq!(psql.errors.len(), 4, "{psql:?}");
        assert_eq!(psql.errors[0], "role \"ledger\" already exists");
        assert_eq!(
            psql.errors[3],
            "error: /rehearse-backup/0: No such file or directory"
        );
        // The detail belongs to the second error, and is not told of the first.
        assert_eq!(
            psql.first().as_deref(),
            Some("role \"ledger\" already exists")
        );
    }

    #[test]
    fn every_message_is_explained_or_the_restore_failed() {
        let a = "role \"a\" does not exist";
        let b = "relation \"b\" does not exist";
        let listed = |message: &str, count| Tolerated {
            message: message.to_owned(),
            count,
        };
        for (errors, tolerated, ours, expected) in [
            (vec![], vec![], vec![], Ok(None)),
            (
                vec![a, a],
                vec![listed(a, 2)],
                vec![],
                Ok(Some("2 tolerated messages")),
            ),
            (
                vec![a],
                vec![],
                vec![a],
                Ok(Some(
                    "1 message about what the service's image had made already",
                )),
            ),
            (vec![a], vec![], vec![], Err("role \"a\"")),
            (vec![], vec![listed(a, 1)], vec![], Err("came 0 times")),
            (vec![a], vec![listed(a, 2)], vec![], Err("came 1 times")),
            (vec![a, a], vec![listed(a, 1)], vec![], Err("came 2 times")),
            (
                vec![a, b],
                vec![listed(a, 1)],
                vec![],
                Err("relation \"b\""),
            ),
            (vec![a, a], vec![], vec![a], Err("role \"a\"")),
        ] {
            let owned = |texts: &[&str]| -> Vec<String> {
                texts.iter().map(|text| (*text).to_owned()).collect()
            };
            let judged = judge(&owned(&errors), &tolerated, &owned(&ours));
            match (expected, judged) {
                (Ok(expected), Ok(figure)) => assert_eq!(figure.as_deref(), expected),
                (Err(word), Err(reason)) => assert!(reason.contains(word), "{reason}"),
                (expected, judged) => panic!("{expected:?}: {judged:?}"),
            }
        }
    }
}
