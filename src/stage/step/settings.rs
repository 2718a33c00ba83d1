//! What is different in each place: parameters and secrets in variables and files.

use std::collections::BTreeMap;

use super::{Outcome, timed_out, uploaded, within};
use crate::event::Owner;
use crate::plan::model::{Setting, Step, Template};
use crate::stage::Bad;
use crate::stage::run::{Run, out_of_order};

/// Every parameter and secret of the package, by name.
pub(super) fn values(run: &Run) -> Result<BTreeMap<String, String>, Bad> {
    let package = run.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let mut values = package.parameters.clone();
    for (name, source) in &package.secrets {
        let value = run.order.secrets.get(source).ok_or_else(|| {
            Bad::new(
                Owner::Engine,
                format!("the secret `{name}` was not read (a defect of rehearse)"),
            )
        })?;
        values.insert(name.clone(), value.to_owned());
    }
    Ok(values)
}

/// The changes of an `env` step with their values.
pub(super) fn variables(
    run: &Run,
    set: &BTreeMap<String, Option<Setting>>,
) -> Result<BTreeMap<String, Option<String>>, Bad> {
    let values = values(run)?;
    set.iter()
        .map(|(variable, setting)| {
            let value = match setting {
                None => None,
                Some(Setting::Text(text)) => Some(text.clone()),
                Some(Setting::Parameter(name) | Setting::Secret(name)) => {
                    Some(values.get(name).cloned().ok_or_else(out_of_order)?)
                }
            };
            Ok((variable.clone(), value))
        })
        .collect()
}

/// Fills templates and copies what they make into a container.
pub(super) async fn files(
    run: &Run,
    step: &Step,
    container: &str,
    files: &[Template],
) -> Result<Outcome, Bad> {
    let values = values(run)?;
    let package = run.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let mut made = Vec::new();
    for file in files {
        let path = package.root.join(&file.template);
        let values = values.clone();
        // Beside the runtime: a template is a program, and the deadline and Ctrl-C must be heard meanwhile.
        let filling = tokio::task::spawn_blocking(move || {
            let source = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            crate::template::fill(&source, &values)
        });
        let filled = match within(step, filling).await {
            None => return Ok(timed_out(step)),
            Some(ended) => ended.unwrap_or_else(|panic| Err(format!("it broke off: {panic}"))),
        };
        match filled {
            Ok(text) => made.push((file.clone(), text)),
            Err(why) => {
                let template = file.template.display();
                return Ok(Outcome::failed(format!(
                    "the template `{template}` cannot be filled: {why}"
                )));
            }
        }
    }
    let sent = run.ground()?.engine.upload_tar(container, "/", move |out| {
        let mut tar = tar::Builder::new(out);
        for (file, text) in &made {
            let mut header = tar::Header::new_gnu();
            header.set_mode(file.mode);
            header.set_uid(file.owner.0);
            header.set_gid(file.owner.1);
            header.set_size(text.len() as u64);
            tar.append_data(
                &mut header,
                file.to.trim_start_matches('/'),
                text.as_bytes(),
            )?;
        }
        tar.finish()
    });
    uploaded(step, within(step, sent).await)
}
