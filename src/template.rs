//! Files of a package that differ from place to place, in the language of Jinja.
//!
//! What a template names must be there: a name that nobody declared would become an empty text in production.

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

const NAME: &str = "template";

/// Instructions of a template: a configuration of some thousand lines takes a tenth of it, and a loop in a loop ends here.
const FUEL: u64 = 2_000_000;

/// Bytes that a template may make.
const MOST: usize = 16 << 20;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // A configuration file is no page: what is given is what stands there.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_keep_trailing_newline(true);
    environment.set_fuel(Some(FUEL));
    environment
}

/// The names that a template wants to be given, sorted.
///
/// # Errors
/// What is wrong with the template, beginning with a verb: `cannot be understood: ...`.
pub fn names(source: &str) -> Result<Vec<String>, String> {
    let mut environment = environment();
    environment
        .add_template(NAME, source)
        .and_then(|()| environment.get_template(NAME))
        .map(|template| {
            let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
            // What the language itself brings.
            names.retain(|name| environment.globals().all(|(global, _)| global != name));
            names.sort();
            names
        })
        .map_err(|error| format!("cannot be understood: {}", said(&error)))
}

/// Fills a template.
///
/// # Errors
/// What is wrong with the template, in one line; the values are not part of it.
pub fn fill(source: &str, values: &impl serde::Serialize) -> Result<String, String> {
    let mut environment = environment();
    let filled = environment
        .add_template(NAME, source)
        .and_then(|()| environment.get_template(NAME))
        .and_then(|template| {
            let mut bounded = Bounded(Vec::new());
            template.render_captured_to(values, &mut bounded)?;
            Ok(bounded.0)
        })
        .map_err(|error| said(&error))?;
    String::from_utf8(filled).map_err(|error| error.to_string())
}

/// Takes no more than [`MOST`] bytes.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(std::io::Error::other("it makes more than 16 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn said(error: &minijinja::Error) -> String {
    let line = error
        .line()
        .map(|line| format!(" in line {line}"))
        .unwrap_or_default();
    let detail = error
        .detail()
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default();
    format!("{}{detail}{line}", error.kind())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_given_stands_there_as_it_is() {
        let source = "host = {{ HOST }}\n{% if TLS == \"on\" %}tls = on\n{% endif %}";
        assert_eq!(names(source).unwrap(), ["HOST", "TLS"]);
        let filled = fill(source, &values(&[("HOST", "a<b>&\"c\""), ("TLS", "on")])).unwrap();
        assert_eq!(filled, "host = a<b>&\"c\"\ntls = on\n");
    }

    #[test]
    fn a_template_that_is_none_or_wants_more_than_it_gets_is_refused() {
        let broken = names("{{ HOST").unwrap_err();
        assert!(broken.starts_with("cannot be understood"), "{broken}");
        assert!(broken.contains("line 1"), "{broken}");
        let missing = fill("\n{{ HOST }}", &values(&[])).unwrap_err();
        assert!(missing.contains("undefined"), "{missing}");
        assert!(missing.contains("line 2"), "{missing}");
        let endless =
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        let endless = fill(endless, &values(&[])).unwrap_err();
        assert!(endless.contains("fuel"), "{endless}");
        let much = "{% for a in range(9000) %}{{ X }}{% endfor %}";
        assert!(fill(much, &values(&[("X", &"x".repeat(4096))])).is_err());
    }
}
