//! What goes wrong before the deploy, and in a backup check.

use super::*;

pub(super) fn rows() -> Vec<Row> {
    use Outcome::{Failed as F, Invalid as I};
    let before = || upto(Rehearse, &BEFORE_BASELINE);
    let deployed = || upto(Rehearse, &UP_TO_DEPLOY);
    let check = || upto(BackupCheck, &BEFORE_BASELINE);
    vec![
        (
            "the package cannot be read",
            with(Stream::new(Rehearse), |s| {
                s.bad(
                    Preflight,
                    Owner::Package,
                    "component `content` comes after `backnd`, which is not there",
                );
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "no engine",
            with(Stream::new(Rehearse), |s| {
                s.bad(
                    Preflight,
                    Owner::Engine,
                    "no engine answers at unix:///var/run/docker.sock",
                );
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "an image is missing",
            with(upto(Rehearse, &[Preflight]), |s| {
                s.bad(
                    Provision,
                    Owner::Stack,
                    "image `cms:1` is neither here nor to be pulled or built",
                );
            }),
            I,
            Some(Owner::Stack),
            2,
        ),
        (
            "the gateway answers",
            with(upto(Rehearse, &[Preflight, Provision]), |s| {
                s.begin(Isolate).case(Isolate, "gateway", Failed).end_bad(
                    Isolate,
                    Owner::Isolation,
                    "1 way out is open",
                );
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "the gateway answers and the stage overlooks it",
            with(deployed(), |s| {
                s.ok(&[Verify])
                    .begin(Isolate)
                    .case(Isolate, "gateway", Failed)
                    .end(Isolate, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "isolation is gone after the deploy",
            with(deployed(), |s| {
                s.ok(&[Verify]).bad(
                    Isolate,
                    Owner::Isolation,
                    "203.0.113.9 answers since the deploy",
                );
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "the package made a way out",
            with(deployed(), |s| {
                s.ok(&[Verify]).bad(
                    Isolate,
                    Owner::Package,
                    "the deploy joined a second network",
                );
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "the second isolate was cut",
            with(deployed(), |s| {
                s.ok(&[Verify]).begin(Isolate);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a bad backup under a rehearsal",
            with(upto(Rehearse, &[Preflight, Provision, Isolate]), |s| {
                s.bad(
                    Restore,
                    Owner::Backup,
                    "cannot restore `site.dump` into `db`: the file ends early",
                );
            }),
            I,
            Some(Owner::Backup),
            2,
        ),
        (
            "a bad backup under a backup check",
            with(upto(BackupCheck, &[Preflight, Provision, Isolate]), |s| {
                s.bad(
                    Restore,
                    Owner::Backup,
                    "cannot restore `site.dump` into `db`: the file ends early",
                );
            }),
            F,
            Some(Owner::Backup),
            1,
        ),
        (
            "an old backup, only a case says so",
            with(upto(BackupCheck, &[Preflight, Provision, Isolate]), |s| {
                s.begin(Restore)
                    .case(Restore, "db/site is younger than 26h", Failed)
                    .end(Restore, StageOutcome::Ok);
            }),
            F,
            Some(Owner::Backup),
            1,
        ),
        (
            "the engine dies in restore, backup check",
            with(upto(BackupCheck, &[Preflight, Provision, Isolate]), |s| {
                s.bad(Restore, Owner::Engine, "no space left on device");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a backup check cut before baseline",
            check(),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "baseline red",
            with(before(), |s| {
                s.begin(Baseline).case(Baseline, "t", Failed).end_bad(
                    Baseline,
                    Owner::Staging,
                    "1 of 1 tests failed",
                );
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "baseline red, the stage overlooks it",
            with(before(), |s| {
                s.begin(Baseline)
                    .case(Baseline, "t", Failed)
                    .end(Baseline, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "baseline blames the package",
            with(before(), |s| {
                s.bad(Baseline, Owner::Package, "x");
            }),
            I,
            Some(Owner::Package),
            2,
        ),
        (
            "baseline not determined",
            with(before(), |s| {
                s.begin(Baseline).case(Baseline, "t", Error).end_bad(
                    Baseline,
                    Owner::Testplan,
                    "no such service",
                );
            }),
            I,
            Some(Owner::Testplan),
            2,
        ),
        (
            "a service never became healthy",
            with(before(), |s| {
                s.bad(Baseline, Owner::Staging, "`web` is not healthy after 2 min");
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "backup check, baseline red",
            with(check(), |s| {
                s.begin(Baseline).case(Baseline, "t", Failed).end_bad(
                    Baseline,
                    Owner::Staging,
                    "1 of 1 tests failed",
                );
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "backup check, baseline blames the backup",
            with(check(), |s| {
                s.begin(Baseline).case(Baseline, "t", Failed).end_bad(
                    Baseline,
                    Owner::Backup,
                    "table `orders` is empty",
                );
            }),
            F,
            Some(Owner::Backup),
            1,
        ),
        (
            "snapshot fails",
            with(upto(Rehearse, &UP_TO_DEPLOY[..5]), |s| {
                s.bad(Snapshot, Owner::Engine, "`db` did not stop within 30 s");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
    ]
}
