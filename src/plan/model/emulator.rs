//! What stands in for systems outside staging, under their real host names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Image, Location};

/// One emulator: a container of its own on the staging network.
#[derive(Clone, Debug, Serialize)]
pub struct Emulator {
    /// Its name, unique in the rehearsal.
    pub name: String,
    /// The host names that lead to it, in lower case; no other name of staging is among them.
    pub hosts: Vec<String>,
    /// What it does.
    pub does: Emulates,
    /// Where it is written.
    pub location: Location,
}

/// What an emulator does.
#[derive(Clone, Debug, Serialize)]
pub enum Emulates {
    /// Answers HTTP by a list of routes.
    Http(HttpEmulator),
    /// Takes mail and sends none.
    Smtp(SmtpEmulator),
    /// Lets connections hang.
    Blackhole {
        /// TCP ports.
        ports: Vec<u16>,
    },
    /// Another image; what it is asked is not recorded.
    Image(ImageEmulator),
}

impl Emulates {
    /// The key under which it is written.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Smtp(_) => "smtp",
            Self::Blackhole { .. } => "blackhole",
            Self::Image(_) => "image",
        }
    }
}

/// Answers HTTP by a list of routes.
#[derive(Clone, Debug, Serialize)]
pub struct HttpEmulator {
    /// Ports without TLS; default 80.
    pub ports: Vec<u16>,
    /// Ports with TLS; `tls: true` is 443.
    pub tls: Vec<u16>,
    /// Services, or `bastion`, into whose trust the certificate of the run's authority is put.
    pub trust: Vec<String>,
    /// The first that fits answers.
    pub routes: Vec<Route>,
    /// What a request that no route fits means. It is answered with 404 in any case.
    pub unmatched: Unmatched,
}

/// Which requests get which answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The path without its query; `*` stands for any characters, also none.
    pub path: String,
    /// In upper case; `None` is any method.
    pub method: Option<String>,
    /// The answer's status.
    pub status: u16,
    /// The answer's headers.
    pub headers: Vec<(String, String)>,
    /// The answer's body.
    pub body: RouteBody,
    /// Waited before the answer.
    pub delay: Duration,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteBody {
    /// None.
    Empty,
    /// A template that sees `request`.
    Template(String),
    /// A file of the rehearsal, as it is.
    File(PathBuf),
}

/// What a request means that no route fits, or mail to somebody who may not be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unmatched {
    /// It is held against whoever caused it.
    Fail,
    /// It is told.
    Allow,
}

/// Takes mail and sends none.
#[derive(Clone, Debug, Serialize)]
pub struct SmtpEmulator {
    /// TCP ports; default 25.
    pub ports: Vec<u16>,
    /// Who may be written to: addresses in lower case, in which `*` stands for any characters.
    pub accept: Vec<String>,
    /// What mail to anybody else means. It is taken in any case.
    pub unmatched: Unmatched,
}

/// Another image in the place of a system outside.
#[derive(Clone, Debug, Serialize)]
pub struct ImageEmulator {
    /// Its image.
    pub image: Image,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
}

impl super::Plan {
    /// Those whose certificates a service (or `bastion`) is to trust.
    pub fn trusted_by(&self, service: &str) -> bool {
        self.emulators.iter().any(|emulator| match &emulator.does {
            Emulates::Http(http) => http.trust.iter().any(|name| name == service),
            Emulates::Smtp(_) | Emulates::Blackhole { .. } | Emulates::Image(_) => false,
        })
    }

    /// True for a host name that an emulator answers to.
    pub fn is_emulated(&self, host: &str) -> bool {
        self.emulators
            .iter()
            .flat_map(|emulator| &emulator.hosts)
            .any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// True where a text fits a pattern in which `*` stands for any characters, also none.
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut rest = rest;
    let Some(last) = pattern.contains('*').then(|| parts.next_back()).flatten() else {
        return rest.is_empty();
    };
    // The first place is as good as any: what follows a star may begin as early as it likes.
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        for (pattern, text, wanted) in [
            ("/charge", "/charge", true),
            ("/charge", "/charge/", false),
            ("/charge", "/chargeback", false),
            ("/files/*", "/files/a/b.json", true),
            ("/files/*", "/files/", true),
            ("/files/*", "/file", false),
            ("/*/x/*.json", "/a/x/b.json", true),
            ("/*/x/*.json", "/a/b.json", false),
            ("*", "", true),
            ("*@staging.example", "anna@staging.example", true),
            ("*@staging.example", "anna@staging.example.com", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("**", "x", true),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
