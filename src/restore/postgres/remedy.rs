//! What people meet often when a dump does not restore: whose fault it is, and what to do.

use crate::backup::BackupFacts;
use crate::event::Owner;
use crate::staging::Bad;

/// Part of a message (in lower case), who is at fault where not the backup, and what to do.
struct Known {
    words: &'static [&'static str],
    owner: Option<Owner>,
    help: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        words: &["role ", "does not exist"],
        owner: None,
        help: "pg_dump carries no roles: restore `globals:` (pg_dumpall --globals-only) beside it, or make them in the \
               service's image (docker-entrypoint-initdb.d)",
    },
    Known {
        words: &["tablespace ", "does not exist"],
        owner: None,
        help: "pg_dump carries no tablespaces: restore `globals:` (pg_dumpall --globals-only) beside it",
    },
    Known {
        words: &["unsupported version"],
        owner: Some(Owner::Stack),
        help: "use the same major version of PostgreSQL as production in the stack",
    },
    // A newer pg_dump than the server: it sets what this server does not have yet, and locks psql by a command of it.
    Known {
        words: &["unrecognized configuration parameter"],
        owner: Some(Owner::Stack),
        help: "the dump was made by a newer `pg_dump` than the service's server: use the same major version of both",
    },
    Known {
        words: &["invalid command \\restrict"],
        owner: Some(Owner::Stack),
        help: "the dump was made by a newer `pg_dump` than the service's `psql`: use the newest minor version in the stack",
    },
    Known {
        words: &["could not open extension control file"],
        owner: Some(Owner::Stack),
        help: "use an image that has production's extensions",
    },
    Known {
        words: &["extension ", "is not available"],
        owner: Some(Owner::Stack),
        help: "use an image that has production's extensions",
    },
    Known {
        words: &["could not access file", "no such file"],
        owner: Some(Owner::Stack),
        help: "use an image that has production's extensions and libraries",
    },
    Known {
        words: &["invalid locale name"],
        owner: Some(Owner::Stack),
        help: "use an image that has production's locales",
    },
    Known {
        words: &["permission denied"],
        owner: Some(Owner::Staging),
        help: "restore as a superuser: name it as `user:`",
    },
    Known {
        words: &["must be superuser"],
        owner: Some(Owner::Staging),
        help: "restore as a superuser: name it as `user:`",
    },
    Known {
        words: &["must be owner of"],
        owner: Some(Owner::Staging),
        help: "restore as a superuser: name it as `user:`",
    },
    Known {
        words: &["must be member of role"],
        owner: Some(Owner::Staging),
        help: "restore as a superuser: name it as `user:`",
    },
    Known {
        words: &["server closed the connection unexpectedly"],
        owner: Some(Owner::Staging),
        help: "the server died: its log is in the run's folder, below logs/; often it lacks memory",
    },
    Known {
        words: &["connection to server was lost"],
        owner: Some(Owner::Staging),
        help: "the server died or ended the connection: its log is in the run's folder, below logs/",
    },
    Known {
        words: &["terminating connection"],
        owner: Some(Owner::Staging),
        help: "the server ended the connection: its log is in the run's folder, below logs/",
    },
];

/// Adds what to do, and takes the blame from the backup where something else is in its way.
pub(super) fn of(bad: Bad, facts: &BackupFacts) -> Bad {
    let lower = bad.reason.to_lowercase();
    let known = KNOWN
        .iter()
        .find(|known| known.words.iter().all(|word| lower.contains(word)));
    let Some(known) = known else {
        return bad;
    };
    let dumped = facts.dump.as_ref();
    let maker = dumped.and_then(|dump| dump.tool_version.as_deref());
    let help = match (known.owner, maker) {
        (Some(Owner::Stack), Some(maker)) => format!("{} (pg_dump {maker})", known.help),
        _ => known.help.to_owned(),
    };
    Bad {
        owner: known.owner.unwrap_or(bad.owner),
        ..bad.with_help(help)
    }
}
