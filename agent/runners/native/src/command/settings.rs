//! What the user has set for this runner.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The names of all settings.
pub const NAMES: &[&str] = &[
    "units",
    "units-from",
    "units-file",
    "results",
    "match",
    "environment",
    "together",
];

#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Patterns of paths; one that begins with `!` takes out again.
    pub units: Vec<String>,
    /// A shell command that prints a unit a line.
    pub units_from: Option<String>,
    /// A file with a unit a line.
    pub units_file: Option<String>,
    /// Where the command writes reports, where the template does not tell it.
    pub results: Vec<String>,
    /// How a case's unit is made of what its report says; found out where it is not set.
    pub unit_of: Option<String>,
    /// Variables as `NAME=VALUE`, filled in as the template is.
    pub environment: Vec<(String, String)>,
    /// At most so many units in one process.
    pub together: usize,
}

impl Settings {
    /// Reads them from the JSON object that the agent passes on; why not, in words for the user.
    pub(super) fn parse(text: Option<&str>) -> Result<Settings, String> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Written(BTreeMap<String, Vec<String>>);
        let Written(mut written) = match text {
            Some(text) => serde_json::from_str(text).map_err(|error| error.to_string())?,
            None => Written(BTreeMap::new()),
        };
        let mut one = |name: &str| -> Result<Option<String>, String> {
            match written.remove(name).as_deref() {
                None => Ok(None),
                Some([value]) => Ok(Some(value.clone())),
                Some(_) => Err(format!("the setting {name} takes one value")),
            }
        };
        let (units_from, units_file) = (one("units-from")?, one("units-file")?);
        let (unit_of, together) = (one("match")?, one("together")?);
        let together = match together {
            None => usize::MAX,
            Some(number) => number
                .parse()
                .ok()
                .filter(|&number| number > 0)
                .ok_or_else(|| {
                    format!(
                        "the setting together is {number:?}; write a number of units, at least 1"
                    )
                })?,
        };
        let mut several = |name: &str| written.remove(name).unwrap_or_default();
        let units = several("units");
        let results = several("results");
        let environment = several("environment")
            .into_iter()
            .map(|written| {
                let parted = written.split_once('=');
                let owned = parted.map(|(name, value)| (name.to_owned(), value.to_owned()));
                owned.ok_or_else(|| {
                    format!("the setting environment is {written:?}; write NAME=VALUE")
                })
            })
            .collect::<Result<_, _>>()?;
        let sources = usize::from(!units.is_empty())
            + usize::from(units_from.is_some())
            + usize::from(units_file.is_some());
        if sources != 1 {
            return Err("which units are there? Set one of units (patterns of paths), units-from (a command that lists them), units-file (a file that does)".to_owned());
        }
        Ok(Settings {
            units,
            units_from,
            units_file,
            results,
            unit_of,
            environment,
            together,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_what_is_wrong_is_said() {
        let settings = Settings::parse(Some(
            r#"{"units":["a/*.js","!a/b.js"],"together":["3"],"environment":["A=b=c"]}"#,
        ))
        .expect("they are fine");
        assert_eq!((settings.units.len(), settings.together), (2, 3));
        assert_eq!(settings.environment, [("A".to_owned(), "b=c".to_owned())]);
        for (text, said) in [
            (r#"{}"#, "which units"),
            (r#"{"units":["a"],"units-from":["b"]}"#, "one of units"),
            (r#"{"units":["a"],"together":["0"]}"#, "at least 1"),
            (r#"{"units-from":["a","b"]}"#, "takes one value"),
            (r#"{"units":["a"],"environment":["A"]}"#, "NAME=VALUE"),
        ] {
            let error = Settings::parse(Some(text)).expect_err("it is wrong");
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(Settings::parse(None).is_err());
    }
}
