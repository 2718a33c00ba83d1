//! Names of a run and of what it makes.

use jiff::Timestamp;

use crate::state::{distinct, slug};

/// The names of one run's resources. All start with `rehearse-<run>`; in a place that was made ready for the run before
/// it had an id, with that place's.
#[derive(Clone, Debug)]
pub struct Names {
    run: String,
    /// What resources are named after.
    stem: String,
    /// The run that made the staging, after which images are named: what a sweep takes for one thing.
    staging: String,
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
        Self::of_run(&format!("{name}-{time}-{random:04x}"))
    }

    /// The names that a run gave.
    pub fn of_run(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            stem: run.to_owned(),
            staging: run.to_owned(),
            part: String::new(),
        }
    }

    /// The same run in a place that has a name already.
    #[must_use]
    pub fn on(self, stem: &str) -> Self {
        Self {
            stem: stem.to_owned(),
            ..self
        }
    }

    /// The name of the place that this run makes ready for the one that tries after it. No part of a run is called so: a
    /// part's name has no dot.
    pub fn next(&self) -> String {
        format!("{}.next", self.run)
    }

    /// What resources are named after: the run, or the place that was made ready for it.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The same run in a staging that another one made.
    #[must_use]
    pub fn within(self, staging: &str) -> Self {
        Self {
            staging: staging.to_owned(),
            ..self
        }
    }

    /// The run's id.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The run that made the staging, after which everything in it is labelled: this one, unless it works in another's.
    pub fn staging(&self) -> &str {
        &self.staging
    }

    /// Of one part of the same run: what is made for it has no name that another part could give.
    pub fn part(&self, part: &str) -> Self {
        Self {
            run: self.run.clone(),
            stem: self.stem.clone(),
            staging: self.staging.clone(),
            part: format!("{}-", slug(part)),
        }
    }

    /// A container, volume or network. Two that are called differently are named differently, also where the engine
    /// allows only one spelling of both.
    pub fn of(&self, what: &str) -> String {
        format!("rehearse-{}-{}{}", self.stem, self.part, distinct(what))
    }

    /// An image that belongs to this run.
    pub fn image(&self, what: &str) -> String {
        let tag = tag(what);
        if self.staging == self.run {
            return format!("rehearse-run/{}:{tag}", self.run);
        }
        // An earlier run's image of that name may still be part of the snapshot.
        let own = self.run.rsplit('-').next().unwrap_or(&self.run);
        format!("rehearse-run/{}:{own}-{tag}", self.staging)
    }
}

/// The longest part of a name that is kept in a tag, of which an engine allows 128 characters.
const READABLE: usize = 60;

/// For a tag: what can be read of a name, and where that is not all of it a digest that tells it from others.
fn tag(what: &str) -> String {
    let named = distinct(what);
    if named == what && named.len() <= READABLE {
        return named;
    }
    let readable: String = slug(what).chars().take(READABLE).collect();
    let digest = crate::digest::sha256(what);
    let digest = digest.trim_start_matches("sha256:");
    let short = digest.get(..6).unwrap_or(digest);
    // A tag begins with a letter or a number.
    format!("{readable}-{short}")
        .trim_start_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Names, tag};

    #[test]
    fn images_of_different_steps_have_different_tags_that_an_engine_takes() {
        assert_eq!(tag("snapshot-db"), "snapshot-db");
        let long = "x".repeat(300);
        let names = [
            "a-b/c",
            "a/b-c",
            "a/b c",
            "网站/镜像",
            "сайт/образ",
            &long,
            "A/B",
        ];
        let tags: std::collections::BTreeSet<String> = names.iter().map(|name| tag(name)).collect();
        assert_eq!(tags.len(), names.len(), "{tags:?}");
        for tag in &tags {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            assert!(tag.len() <= 70 && tag.chars().all(fits), "{tag}");
            assert!(!tag.starts_with('-'), "{tag}");
        }
        let retried = Names::of_run("site-2").within("site-1");
        assert_eq!(retried.image("web"), "rehearse-run/site-1:2-web");
    }
}
