//! A step that runs a command: no input, no terminal, only the variables that were declared.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::input::Input;
use super::{LATE, Outcome, container_of, settings};
use crate::engine::ExecSpec;
use crate::event::{EventKind, Output, Stage};
use crate::plan::model::Step;
use crate::stage::run::{Run, out_of_order};
use crate::stage::{Bad, surrounded};
use crate::staging::{Bastion, Ended, PACKAGE_FOLDER};

/// Lines of a step's output that are kept beside its case.
const TAIL: usize = 40;

/// Lines of one step that become events. A step that floods its output must not fill memory and disk with it; what
/// it says last is kept beside its case all the same.
const LINES: usize = 20_000;

/// Characters of a line that become part of an event.
const LINE_LENGTH: usize = 4_000;

/// What a `run` step is.
pub(super) struct Script<'a> {
    pub text: &'a str,
    pub service: Option<&'a str>,
    pub user: Option<&'a str>,
}

/// Runs it, again where it ended with another exit code than the expected one and the package declares retries. All
/// tries together have the step's time.
pub(super) async fn run(
    run: &mut Run,
    component: &str,
    step: &Step,
    script: &Script<'_>,
    bastion: Option<&Bastion>,
) -> Result<Outcome, Bad> {
    let tries = u32::from(step.retries) + 1;
    let begun = Instant::now();
    for number in 1.. {
        let left = step.timeout.saturating_sub(begun.elapsed());
        let outcome = once(run, component, step, script, bastion, left).await?;
        let failed = match &outcome.result {
            Ok(_) if number > 1 => {
                let figure = format!("at try {number} of {tries}: the package declares retries");
                return Ok(Outcome {
                    result: Ok(Some(figure)),
                    ..outcome
                });
            }
            Ok(_) => return Ok(outcome),
            Err(why) => why,
        };
        // What overran was killed with the container it ran in: there is nowhere to try again.
        if number >= tries || outcome.exit_code.is_none() {
            let why = if number > 1 {
                format!("{failed} (at try {number} of {tries})")
            } else {
                failed.clone()
            };
            return Ok(Outcome {
                result: Err(why),
                ..outcome
            });
        }
        run.ground()?.note(format!(
            "step `{}` failed ({failed}) and is tried again, as the package says: {} of {tries}",
            step.name,
            number + 1
        ));
    }
    Err(out_of_order())
}

async fn once(
    run: &mut Run,
    component: &str,
    step: &Step,
    script: &Script<'_>,
    bastion: Option<&Bastion>,
    left: Duration,
) -> Result<Outcome, Bad> {
    let ground = run.ground()?.clone();
    let (container, working_dir) = match script.service {
        Some(service) => (container_of(run, service)?, None),
        None => (
            bastion.ok_or_else(out_of_order)?.container().to_owned(),
            Some(PACKAGE_FOLDER.to_owned()),
        ),
    };
    let input = Input::new();
    let spec = ExecSpec {
        command: input.command(script.text),
        environment: settings::values(run)?,
        user: script.user.map(str::to_owned),
        working_dir,
        ..ExecSpec::default()
    };
    let source = format!("{component}/{}", step.name);
    let mut tail: VecDeque<String> = VecDeque::new();
    let mut lines = 0_usize;
    // Also where the step is broken off.
    let told = &mut run.watched.told;
    let emit = |output: Output, line: String| {
        ground.recorder.emit(EventKind::OutputLine {
            stage: Stage::Deploy,
            source: source.clone(),
            output,
            line,
        });
    };
    run.working_in = Some(container.clone());
    let ended = ground
        .exec_within(&container, &spec, left, |line| {
            // Also what a terminal would not show any more: a log has it.
            if ground.mask.tells(&line.line) || ground.mask.tells(&line.overwritten) {
                told.insert(source.clone());
            }
            // Before it is cut: half a secret is one too.
            let text = shortened(ground.mask.text(line.line));
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text.clone());
            lines += 1;
            match lines.cmp(&LINES) {
                Ordering::Less => emit(line.output, text),
                Ordering::Equal => emit(
                    line.output,
                    format!("(the step writes more than {LINES} lines; only its last {TAIL} are kept from here on)"),
                ),
                Ordering::Greater => {}
            }
        })
        .await;
    run.working_in = None;
    let tail = tail.into_iter().collect::<Vec<_>>();
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) if error.status.is_some_and(|status| status < 500) => {
            return Ok(Outcome::failed(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let tail = tail.join("\n");
    let read = match &ended {
        Ended::ByItself(_) => input.was_read(&ground.engine, &container, &spec).await,
        Ended::Killed => None,
    };
    match read {
        Some(false) => {}
        Some(true) => {
            run.watched.reads.insert(source);
        }
        None => {
            run.watched.unseen.insert(source);
        }
    }
    surrounded::look_at(run, &container, script.service).await?;
    Ok(match ended {
        Ended::Killed => Outcome {
            result: Err(format!(
                "it {LATE} of {} s and was killed",
                step.timeout.as_secs()
            )),
            exit_code: None,
            tail,
        },
        Ended::ByItself(outcome) => {
            let result = if outcome.exit_code == step.expect_exit {
                Ok(None)
            } else {
                let expected = if step.expect_exit == 0 {
                    String::new()
                } else {
                    format!(" instead of {}", step.expect_exit)
                };
                let words = outcome.last_words();
                let said = if words.is_empty() {
                    " and wrote nothing".to_owned()
                } else {
                    format!(": {words}")
                };
                Err(format!("exit code {}{expected}{said}", outcome.exit_code))
            };
            Outcome {
                result,
                exit_code: Some(outcome.exit_code),
                tail,
            }
        }
    })
}

fn shortened(line: String) -> String {
    if line.chars().count() <= LINE_LENGTH {
        return line;
    }
    let start: String = line.chars().take(LINE_LENGTH).collect();
    format!("{start}…")
}
