//! What goes wrong in the deploy and after it.

use super::*;

pub(super) fn rows() -> Vec<Row> {
    use Outcome::{Failed as F, Invalid as I, Passed as P};
    let deployed = || upto(Rehearse, &UP_TO_DEPLOY);
    vec![
        (
            "a step fails",
            with(stream::up_to_snapshot(), |s| {
                s.begin(Deploy).step(
                    "backend",
                    "migrate the schema",
                    3,
                    &["ERROR: relation exists"],
                );
                s.end_bad(Deploy, Owner::Package, "exit code 3, not 0");
                s.rolled_back();
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a step fails and isolate is gone too",
            with(stream::up_to_snapshot(), |s| {
                s.bad(Deploy, Owner::Package, "exit code 3, not 0").bad(
                    Isolate,
                    Owner::Isolation,
                    "the gateway answers",
                );
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "a step fails, but baseline was never seen green",
            with(upto(Rehearse, &BEFORE_BASELINE), |s| {
                s.bad(Deploy, Owner::Package, "exit code 3, not 0");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "the engine dies in deploy",
            with(upto(Rehearse, &UP_TO_DEPLOY[..6]), |s| {
                s.bad(Deploy, Owner::Engine, "the engine closed the connection");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "staging at fault in deploy",
            with(upto(Rehearse, &UP_TO_DEPLOY[..6]), |s| {
                s.bad(Deploy, Owner::Staging, "`db` ran out of its memory limit");
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "a test fails",
            stream::failing(),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a test fails, the stage overlooks it",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Failed)
                    .end(Verify, StageOutcome::Ok);
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a test fails beside one not determined",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "u", Error)
                    .case(Verify, "t", Failed);
                s.end_bad(Verify, Owner::Testplan, "1 failed, 1 error");
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a test fails and the engine dies",
            with(deployed(), |s| {
                s.begin(Verify).case(Verify, "t", Failed).end_bad(
                    Verify,
                    Owner::Engine,
                    "the agent is gone",
                );
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a new test is not determined",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Error)
                    .end(Verify, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Testplan),
            2,
        ),
        (
            "a test that worked before is not determined",
            with(stream::up_to_deploy(), |s| {
                s.begin(Verify)
                    .case(Verify, "no order is lost", Error)
                    .end(Verify, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a test is not reached",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Passed)
                    .case(Verify, "u", Skipped)
                    .end(Verify, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Testplan),
            2,
        ),
        (
            "a service dies after the deploy",
            with(deployed(), |s| {
                s.bad(Verify, Owner::Package, "`web` exited with 1");
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a warning",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Warned)
                    .end(Verify, StageOutcome::Ok);
            }),
            P,
            None,
            0,
        ),
        (
            "interrupted in deploy",
            with(upto(Rehearse, &UP_TO_DEPLOY[..6]), |s| {
                s.begin(Deploy).end(Deploy, StageOutcome::Interrupted);
            }),
            I,
            None,
            130,
        ),
        (
            "interrupted in rollback",
            with(stream::passing_up_to_verify(), |s| {
                s.begin(Rollback).end(Rollback, StageOutcome::Interrupted);
            }),
            P,
            None,
            130,
        ),
        (
            "rollback stuck after passed",
            with(stream::passing_up_to_verify(), |s| {
                s.bad(
                    Rollback,
                    Owner::Engine,
                    "`db/site` differs from the snapshot",
                );
            }),
            P,
            None,
            3,
        ),
        (
            "rollback stuck after failed",
            with(deployed(), |s| {
                s.bad(Verify, Owner::Package, "x").bad(
                    Rollback,
                    Owner::Package,
                    "`db/site` differs from the snapshot",
                );
            }),
            F,
            Some(Owner::Package),
            3,
        ),
        (
            "rollback stuck, only a case says so",
            with(stream::passing_up_to_verify(), |s| {
                s.case(Rollback, "the front page answers", Failed)
                    .rolled_back();
            }),
            P,
            None,
            3,
        ),
        (
            "rollback stuck after invalid",
            with(deployed(), |s| {
                s.bad(Verify, Owner::Engine, "x").bad(
                    Rollback,
                    Owner::Engine,
                    "`db` does not start",
                );
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "teardown leaves something",
            with(stream::passing_up_to_verify(), |s| {
                s.rolled_back()
                    .bad(Teardown, Owner::Engine, "1 network could not be removed");
            }),
            P,
            None,
            0,
        ),
    ]
}
