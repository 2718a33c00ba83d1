//! What a backup check says of each backup: what it was held against, what became of it, and whether one could come
//! back from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::ladder::{Rung, SEEN_TO_BE_BAD};
use crate::event::{Case, CaseStatus, Event, EventKind, Stage};
use crate::verdict::Outcome;

/// The answers of a backup check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupCheck {
    /// Whether one could come back from these backups.
    pub come_back: ComeBack,
    /// True where all that is wrong is the age of the data.
    pub only_too_old: bool,
    /// Each backup, in the order of the rehearsal.
    pub backups: Vec<BackupSeen>,
}

/// Whether one could come back. It follows the verdict: not judged is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComeBack {
    /// Passed.
    Yes,
    /// Failed.
    No,
    /// Invalid, or the rehearsal restores no backup.
    Unknown,
}

impl ComeBack {
    const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::Yes,
            Outcome::Failed => Self::No,
            Outcome::Invalid => Self::Unknown,
        }
    }
}

/// What became of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// It was restored.
    Restored,
    /// An identical earlier restore served.
    Reused,
    /// Its restore went wrong, and the backup is at fault.
    Failed,
    /// Its restore went wrong for another reason.
    NotDetermined,
    /// It was not reached.
    NotRestored,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupSeen {
    /// The restore's name.
    pub restore: String,
    /// What became of it.
    pub became: Became,
    /// What the backup is, once it is restored.
    pub format: Option<String>,
    /// Bytes of the backup as it lies there: of one file at once, of a folder once it was read.
    pub size: Option<u64>,
    /// The median of its sizes in earlier, passed runs.
    pub usual_size: Option<u64>,
    /// How many earlier runs that is the median of.
    pub earlier_runs: u64,
    /// The time of the newest data, where it could be told.
    pub data_as_of: Option<Timestamp>,
    /// How old that was when the run began, in seconds.
    pub data_age_seconds: Option<i64>,
    /// How old it may be.
    pub max_age_seconds: Option<u64>,
    /// What the restore took, in seconds; of a reused one what the earlier one took.
    pub restore_seconds: Option<f64>,
    /// What it may take.
    pub restore_limit_seconds: u64,
    /// Damaged copies of it that were seen to be bad, with `--prove`.
    pub damaged_seen: u64,
    /// Damaged copies that passed, or of which nobody could say.
    pub damaged_missed: u64,
    /// Damages that its format does not allow, or that nothing could show.
    pub damaged_not_tried: u64,
    /// The content address of the base that it is in.
    pub base: Option<String>,
}

impl BackupCheck {
    /// Folds the events of a backup check that began at `started`.
    pub(super) fn of(events: &[Event], started: Timestamp, outcome: Outcome) -> Self {
        let mut check = Self {
            come_back: ComeBack::of(outcome),
            only_too_old: false,
            backups: Vec::new(),
        };
        let (mut too_old, mut other) = (false, outcome != Outcome::Failed);
        for event in events {
            // What is not told of here says nothing of a single backup.
            if let EventKind::BackupExpected {
                restore,
                size,
                max_age_seconds,
                limit_seconds,
                usual_size,
                earlier_runs,
            } = &event.kind
            {
                check.backups.push(BackupSeen {
                    restore: restore.clone(),
                    became: Became::NotRestored,
                    format: None,
                    size: *size,
                    usual_size: *usual_size,
                    earlier_runs: *earlier_runs,
                    data_as_of: None,
                    data_age_seconds: None,
                    max_age_seconds: *max_age_seconds,
                    restore_seconds: None,
                    restore_limit_seconds: *limit_seconds,
                    damaged_seen: 0,
                    damaged_missed: 0,
                    damaged_not_tried: 0,
                    base: None,
                });
            } else if let EventKind::ArtefactDigested(artefact) = &event.kind {
                if let Some(seen) = check.named(&artefact.role) {
                    seen.size = Some(artefact.size);
                }
            } else if let EventKind::CaseFinished { stage, case } = &event.kind {
                let bad = matches!(case.status, CaseStatus::Failed | CaseStatus::Error);
                let fresh = case.name.ends_with(Rung::Fresh.says());
                too_old |= bad && fresh;
                other |= bad && !fresh;
                check.case(*stage, case);
            } else if let EventKind::BackupRestored {
                restore,
                format,
                size,
                seconds,
                as_of,
                reused,
                base,
            } = &event.kind
                && let Some(seen) = check.named(restore)
            {
                seen.became = if *reused {
                    Became::Reused
                } else {
                    Became::Restored
                };
                seen.format = Some(format.clone());
                seen.size = Some(*size);
                // An image that was there already does not say how long it once took.
                seen.restore_seconds = (!*reused || *seconds > 0.0).then_some(*seconds);
                seen.data_as_of = *as_of;
                seen.data_age_seconds = as_of.map(|as_of| started.duration_since(as_of).as_secs());
                seen.base.clone_from(base);
            }
        }
        // Data from the future is no old data.
        other |= check
            .backups
            .iter()
            .any(|seen| seen.data_age_seconds.is_some_and(|age| age < 0));
        check.only_too_old = too_old && !other;
        // Where nothing is restored, every stage can end well and nothing is known of a backup.
        if check.backups.is_empty() {
            check.come_back = ComeBack::Unknown;
        }
        check
    }

    fn named(&mut self, restore: &str) -> Option<&mut BackupSeen> {
        self.backups.iter_mut().find(|seen| seen.restore == restore)
    }

    fn case(&mut self, stage: Stage, case: &Case) {
        let bad = matches!(case.status, CaseStatus::Failed | CaseStatus::Error);
        let (restore, rung) = case.name.rsplit_once(": ").unwrap_or((&case.name, ""));
        if rung.ends_with(SEEN_TO_BE_BAD)
            && let Some(seen) = self.named(restore)
        {
            match case.status {
                CaseStatus::Passed => seen.damaged_seen += 1,
                CaseStatus::Failed | CaseStatus::Error | CaseStatus::Warned => {
                    seen.damaged_missed += 1;
                }
                CaseStatus::Skipped => seen.damaged_not_tried += 1,
            }
        }
        if bad
            && stage == Stage::Restore
            && rung == Rung::Restores.says()
            && let Some(seen) = self.named(restore)
        {
            seen.became = if case.status == CaseStatus::Failed {
                Became::Failed
            } else {
                Became::NotDetermined
            };
            seen.restore_seconds = Some(case.seconds);
        }
    }
}
