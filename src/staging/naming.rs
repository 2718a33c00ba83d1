//! Names of a run and of what it makes.

use jiff::Timestamp;

use crate::state::slug;

/// The names of one run's resources. All start with `rehearse-<run>`.
#[derive(Clone, Debug)]
pub struct Names {
    run: String,
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
        }
    }

    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// A container, volume or network.
    pub fn of(&self, what: &str) -> String {
        format!("rehearse-{}-{}", self.run, slug(what))
    }

    /// An image that belongs to this run.
    pub fn image(&self, what: &str) -> String {
        format!("rehearse-run/{}:{}", self.run, slug(what))
    }
}
