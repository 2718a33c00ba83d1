//! How old the data is.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{AS_OF, Bad};
use crate::backup::BackupFacts;
use crate::check::ladder::Rung;
use crate::event::{CaseStatus, Mismatch, Mode, Owner, Stage};
use crate::plan::model::Restore;
use crate::stage::run::{Run, not_passed, passed};

/// The time of the newest data, and how it is known.
pub(in crate::stage) struct Age {
    pub(super) as_of: Timestamp,
    how: &'static str,
    /// Clocks may be ahead by this.
    tolerated: jiff::SignedDuration,
}

/// The time of the newest data: by a query, else by what the backup says of itself. The file's own time says when
/// somebody copied it, so it is never asked.
pub(super) fn of(
    restore: &Restore,
    facts: &BackupFacts,
    told: &BTreeMap<String, String>,
) -> Option<Age> {
    let told = told
        .get(&format!("{AS_OF}{}", restore.name))
        .and_then(|text| text.parse::<Timestamp>().ok())
        .map(|as_of| Age {
            as_of,
            how: if restore.demands.data_as_of.is_some() {
                "by data_as_of"
            } else {
                "by the restoring tool"
            },
            tolerated: CLOCKS,
        });
    let made = || {
        let local = facts.dump.as_ref()?.made_local?;
        let zoned = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Age {
            as_of: zoned.timestamp(),
            how: "by the dump's own clock, taken for UTC",
            tolerated: ZONES,
        })
    };
    let newest = || {
        Some(Age {
            as_of: facts.newest?,
            how: "by the newest file in the archive",
            tolerated: CLOCKS,
        })
    };
    told.or_else(made).or_else(newest)
}

/// Judges `max_age` by the data.
pub(super) fn judge(run: &Run, member: usize, told: &BTreeMap<String, String>) -> Result<(), Bad> {
    let restore = &run.order.plan.restores[member];
    let name = super::examine::name(restore, Rung::Fresh);
    let Some(max_age) = restore.max_age else {
        if run.order.mode == Mode::BackupCheck {
            let reason = "the rehearsal says no `max_age`";
            run.case(
                Stage::Restore,
                not_passed(Stage::Restore, name, CaseStatus::Skipped, 0.0, reason),
            );
        }
        return Ok(());
    };
    let Some(age) = of(restore, &run.backups[member], told) else {
        let reason = format!(
            "the age of {} cannot be told: the backup does not say when it was made",
            restore.name
        );
        run.case(
            Stage::Restore,
            not_passed(Stage::Restore, name, CaseStatus::Error, 0.0, &reason),
        );
        return Err(Bad::new(Owner::Staging, reason).with_help(
            "give the restore a `data_as_of:` query for the time of the newest row, or leave `max_age` out",
        ));
    };
    age.within(run, restore, max_age)
}

impl Age {
    /// As the run saw it that restored what is taken over. Its clock and zones were judged then.
    pub(in crate::stage) const fn seen(as_of: Timestamp) -> Self {
        Self {
            as_of,
            how: "as the staging's own run saw it",
            tolerated: ZONES,
        }
    }

    /// Judges `max_age` of a restore by this.
    ///
    /// # Errors
    /// The data is too old, or of the future.
    pub(in crate::stage) fn within(
        &self,
        run: &Run,
        restore: &Restore,
        max_age: Duration,
    ) -> Result<(), Bad> {
        let Self {
            as_of,
            how,
            tolerated,
        } = *self;
        let name = super::examine::name(restore, Rung::Fresh);
        let age = Timestamp::now().duration_since(as_of);
        if age < -tolerated {
            let reason = format!(
                "the data of {} says that it is of {as_of:.0}, which is in the future ({how}): its age cannot be trusted",
                restore.name
            );
            run.case(
                Stage::Restore,
                not_passed(Stage::Restore, name, CaseStatus::Failed, 0.0, &reason),
            );
            return Err(Bad::new(Owner::Backup, reason).with_help(
                "look at the clock of the machine that made it, or at the newest rows or files",
            ));
        }
        let limit = jiff::SignedDuration::try_from(max_age).unwrap_or(jiff::SignedDuration::MAX);
        let figure = format!("data of {as_of:.0}, {} old, {how}", round(age));
        if age <= limit {
            run.case(
                Stage::Restore,
                passed(Stage::Restore, name, 0.0, Some(figure)),
            );
            return Ok(());
        }
        let reason = format!(
            "the data of {} is {} old, more than max_age {} ({how})",
            restore.name,
            round(age),
            round(limit)
        );
        let mut case = not_passed(Stage::Restore, name, CaseStatus::Failed, 0.0, &reason);
        case.mismatches.push(Mismatch {
            what: "age".to_owned(),
            expected: format!("at most {}", round(limit)),
            seen: figure,
        });
        case.location = Some(restore.location.to_string());
        run.case(Stage::Restore, case);
        Err(Bad::new(Owner::Backup, reason).with_help("look at the job that makes the backup"))
    }
}

/// Two clocks may differ by this and still be called right.
const CLOCKS: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// A dump's own clock shows local time without its zone, which may be this far ahead of UTC.
const ZONES: jiff::SignedDuration = jiff::SignedDuration::from_hours(14);

/// In the two largest units that matter to a person.
fn round(age: jiff::SignedDuration) -> String {
    let minutes = age.as_mins();
    match minutes {
        ..=119 => format!("{minutes} min"),
        120..=2879 => format!("{} h", minutes / 60),
        _ => format!("{} d {} h", minutes / 1440, minutes % 1440 / 60),
    }
}
