//! Names of a run and of what it makes.

use jiff::Timestamp;

use crate::state::{distinct, slug};

/// The names of one run's resources. All start with `rehearse-<run>`.
#[derive(Clone, Debug)]
pub struct Names {
    run: String,
    /// Stands before everything that is named for one part of the run.
    part: String,
}

impl Names {
    /// A new run's names: `<rehearsal>-<UTC time>-<4 hex digits>`, unique enough for runs that start in the same second.
    pub fn new(rehearsal: &str, now: Timestamp) -> Self {
        let time = now.strftime("%Y%m%d-%H%M%S");
        let random = fastrand::u16(..);
        let mut name = slug(rehearsal);
        name.truncate(24);
        Self {
            run: format!("{name}-{time}-{random:04x}"),
            part: String::new(),
        }
    }

    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Of one part of the same run: what is made for it has no name that another part could give.
    pub fn part(&self, part: &str) -> Self {
        Self {
            run: self.run.clone(),
            part: format!("{}-", slug(part)),
        }
    }

    /// A container, volume or network. Two that are called differently are named differently, also where the engine
    /// allows only one spelling of both.
    pub fn of(&self, what: &str) -> String {
        format!("rehearse-{}-{}{}", self.run, self.part, distinct(what))
    }

    /// An image that belongs to this run.
    pub fn image(&self, what: &str) -> String {
        format!("rehearse-run/{}:{}", self.run, slug(what))
    }
}
